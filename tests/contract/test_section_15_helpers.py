"""Section 15: what two services' tests import from the library's tests folder."""

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka import ConsumerRecord

from libs.huleedu_service_libs.tests.idempotency_test_utils import AsyncConfirmationTestHelper, create_test_message

EVENTS = ("processing_started", "processing_complete", "confirmation_allowed", "confirmation_complete")


@pytest.mark.contract("15-import-path", "15-events")
def test_the_helper() -> None:
    """By this path; four events that are not set, and nothing known yet."""
    helper = AsyncConfirmationTestHelper()
    for name in EVENTS:
        event = getattr(helper, name)
        assert (type(event), event.is_set()) == (asyncio.Event, False)
    assert (helper.processing_error, helper.processing_result, helper.confirmed) == (None, None, False)


@pytest.mark.contract("15-controlled", "15-none-is-true", "15-waits")
@pytest.mark.parametrize(("result", "expected"), [("done", "done"), (None, True)])
async def test_a_confirmation_under_control(result: Any, expected: Any) -> None:
    """Work, stop, confirm when allowed: in this order, with what was handed over."""
    helper, work, confirm = AsyncConfirmationTestHelper(), AsyncMock(return_value=result), AsyncMock()
    task = asyncio.ensure_future(
        helper.process_with_controlled_confirmation(work, "msg", confirm, "argument", keyword=1)
    )
    await helper.wait_for_processing_started()
    await helper.wait_for_processing_complete(timeout=20.0)
    work.assert_awaited_once_with("msg", "argument", keyword=1)
    confirm.assert_not_called()
    with pytest.raises(TimeoutError):
        await helper.wait_for_confirmation(timeout=0.05)
    assert (helper.confirmed, helper.processing_result) == (False, expected)
    helper.allow_confirmation()
    await helper.wait_for_confirmation()
    assert (await task, helper.confirmed) == (expected, True)
    confirm.assert_awaited_once_with()


@pytest.mark.contract("15-error")
async def test_work_that_fails() -> None:
    """Stored, told and raised; nothing is confirmed."""
    helper, error, confirm = AsyncConfirmationTestHelper(), KeyError("x"), AsyncMock()
    with pytest.raises(KeyError):
        await helper.process_with_controlled_confirmation(AsyncMock(side_effect=error), "msg", confirm)
    assert helper.processing_error is error
    assert (helper.processing_complete.is_set(), helper.confirmed) == (True, False)
    confirm.assert_not_called()


@pytest.mark.contract("15-message")
def test_a_message() -> None:
    """A Kafka record with the envelope's fields."""
    message = create_test_message()
    assert isinstance(message, ConsumerRecord)
    body = json.loads(message.value or b"")
    assert (body["event_id"], body["event_type"]) == ("test-123", "test.event.v1")
    own = json.loads(create_test_message(event_id="1", event_type="e.v1", data={"a": 1}).value or b"")
    assert (own["event_id"], own["event_type"], own["data"]) == ("1", "e.v1", {"a": 1})
