"""`OutboxManager`: what is stored, what is woken, which errors a service sees."""

from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy.ext.asyncio import AsyncSession

from common_core import ErrorCode, EventEnvelope
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager, resolve_partition_key
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

ENVELOPE: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="svc", data={"ord": "smörgås"})


def _manager() -> tuple[OutboxManager, AsyncMock, AsyncMock]:
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    return OutboxManager(repository, redis, "my-service"), repository, redis


async def _publish(manager: OutboxManager, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "aggregate_type": "essay",
        "aggregate_id": "essay-1",
        "event_type": "e.v1",
        "event_data": ENVELOPE,
        "topic": "topic",
    }
    await manager.publish_to_outbox(**(arguments | changes))


async def test_the_repository_gets_everything_by_keyword() -> None:
    """One call, all keywords, the session always among them."""
    manager, repository, _ = _manager()
    await _publish(manager)
    repository.add_event.assert_awaited_once_with(
        aggregate_id="essay-1",
        aggregate_type="essay",
        event_type="e.v1",
        event_data=ENVELOPE.model_dump(mode="json") | {"topic": "topic"},
        topic="topic",
        event_key="essay-1",
        session=None,
    )


def _new(number: int, **changes: Any) -> NewEvent:
    arguments: dict[str, Any] = {"event_data": ENVELOPE, "topic": "topic", **changes}
    return NewEvent(aggregate_type="essay", aggregate_id=f"essay-{number}", event_type="e.v1", **arguments)


async def test_many_are_added_one_by_one_where_the_repository_can_do_no_better() -> None:
    """In the session given, in order; without one nothing is added, as a part could remain."""
    manager, repository, redis = _manager()
    session = AsyncMock(spec=AsyncSession)
    await manager.publish_many_to_outbox([_new(1), _new(2)], session=session)
    calls = repository.add_event.await_args_list
    assert [call.kwargs["aggregate_id"] for call in calls] == ["essay-1", "essay-2"]
    assert all(call.kwargs["session"] is session for call in calls)
    redis.lpush.assert_awaited_once_with("outbox:wake:my-service", "wake")
    with pytest.raises(HuleEduError) as raised:
        await manager.publish_many_to_outbox([_new(1), _new(2)])
    assert "many at once need a session" in raised.value.error_detail.details["error_details"]
    assert repository.add_event.await_count == 2
    await manager.publish_many_to_outbox([])
    assert redis.lpush.await_count == 1


async def test_a_faulty_one_among_many_is_told() -> None:
    """The typed error of a single publication, and nothing is woken."""
    manager, _, redis = _manager()
    with pytest.raises(HuleEduError, match="ValueError"):
        await manager.publish_many_to_outbox([_new(1, event_data={"no": "envelope"})], session=AsyncMock())
    redis.lpush.assert_not_called()


async def test_headers_are_stored_when_given() -> None:
    """Caller's headers stand beside the topic in what is stored."""
    manager, repository, _ = _manager()
    await _publish(manager, headers={"x": "1"})
    assert repository.add_event.call_args.kwargs["event_data"]["headers"] == {"x": "1"}


@pytest.mark.parametrize(
    ("metadata", "message_key", "expected"),
    [
        (None, None, "essay-1"),
        (None, "given", "given"),
        ({"partition_key": "declared"}, "given", "declared"),
        ({"partition_key": ""}, None, "essay-1"),
    ],
)
async def test_the_event_key(metadata: dict[str, Any] | None, message_key: str | None, expected: str) -> None:
    """The metadata's partition key, else the message key, else the aggregate id."""
    manager, repository, _ = _manager()
    await _publish(manager, event_data=ENVELOPE.model_copy(update={"metadata": metadata}), message_key=message_key)
    assert repository.add_event.call_args.kwargs["event_key"] == expected


async def test_the_relay_is_woken_with_one_token() -> None:
    """After storing, one LPUSH with two positional arguments."""
    manager, _, redis = _manager()
    await _publish(manager)
    redis.lpush.assert_called_once_with("outbox:wake:my-service", "wake")


async def test_a_failing_wake_up_is_survived() -> None:
    """The event is stored; that Redis is away costs one poll interval."""
    manager, repository, redis = _manager()
    redis.lpush.side_effect = ConnectionError("redis is away")
    await _publish(manager)
    repository.add_event.assert_awaited_once()


async def test_a_wake_list_that_nobody_reads_does_not_grow_for_ever() -> None:
    """Beyond the limit the list is dropped."""
    manager, _, redis = _manager()
    redis.lpush.return_value = 1001
    await _publish(manager)
    redis.delete_key.assert_awaited_once_with("outbox:wake:my-service")


async def test_the_current_trace_is_put_into_the_metadata() -> None:
    """The W3C context of the request travels with the row; metadata that has one keeps it."""
    manager, repository, _ = _manager()
    span = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote=True, trace_flags=TraceFlags(1)))
    with trace.use_span(span):
        await _publish(manager, event_data=ENVELOPE.model_copy(update={"metadata": {"k": "v"}}))
        await _publish(manager, event_data=ENVELOPE.model_copy(update={"metadata": {"traceparent": "mine"}}))
    first, second = (call.kwargs["event_data"]["metadata"] for call in repository.add_event.call_args_list)
    assert first == {"k": "v", "traceparent": f"00-{0xA:032x}-{0xB:016x}-01"}
    assert second == {"traceparent": "mine"}


async def test_without_a_repository() -> None:
    """The error names what is missing and carries the envelope's correlation id."""
    manager = OutboxManager(None, None, "my-service")  # type: ignore[arg-type]  # a container that is wired wrongly
    with pytest.raises(HuleEduError) as caught:
        await _publish(manager)
    detail = caught.value.error_detail
    assert "Outbox repository not configured" in detail.message
    assert (caught.value.error_code, detail.service, detail.operation) == (
        "EXTERNAL_SERVICE_ERROR",
        "my-service",
        "publish_to_outbox",
    )
    assert detail.details == {
        "external_service": "outbox_repository",
        "aggregate_id": "essay-1",
        "event_type": "e.v1",
    }
    assert detail.correlation_id == ENVELOPE.correlation_id


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"correlation_id": "6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b"}, UUID("6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b")),
        ({"correlation_id": "nonsense"}, UUID(int=0)),
        ({}, UUID(int=0)),
    ],
)
async def test_something_that_is_no_envelope(given: dict[str, str], expected: UUID) -> None:
    """A dict is refused with a hint, under its own correlation id if it has one."""
    manager, repository, _ = _manager()
    with pytest.raises(HuleEduError) as caught:
        await _publish(manager, event_data=given)
    detail = caught.value.error_detail
    assert detail.message == "Failed to store event in outbox: ValueError"
    assert detail.details["error_type"] == "ValueError"
    assert "OutboxManager expects Pydantic EventEnvelope" in detail.details["error_details"]
    assert detail.correlation_id == expected
    repository.add_event.assert_not_called()


async def test_an_envelope_that_cannot_be_encoded() -> None:
    """The error says which type is at fault; nothing is stored."""
    manager, repository, _ = _manager()
    with pytest.raises(HuleEduError, match="Failed to store event in outbox: PydanticSerializationError"):
        await _publish(manager, event_data=ENVELOPE.model_copy(update={"data": object()}))
    repository.add_event.assert_not_called()


async def test_a_failing_repository() -> None:
    """The error names the cause's type and text and keeps it as its cause."""
    manager, repository, redis = _manager()
    repository.add_event.side_effect = OSError("disk full")
    with pytest.raises(HuleEduError, match="Failed to store event in outbox: OSError") as caught:
        await _publish(manager)
    assert caught.value.error_detail.details["error_details"] == "disk full"
    assert isinstance(caught.value.__cause__, OSError)
    redis.lpush.assert_not_called()


async def test_a_typed_error_of_the_repository_is_passed_on() -> None:
    """The same object comes out."""
    manager, repository, _ = _manager()
    error = HuleEduError(
        create_error_detail_with_context(ErrorCode.UNKNOWN_ERROR, "full", "svc", "add", uuid4(), capture_stack=False)
    )
    repository.add_event.side_effect = error
    with pytest.raises(HuleEduError) as caught:
        await _publish(manager)
    assert caught.value is error


@pytest.mark.parametrize(
    ("event_type", "metadata", "expected"),
    [
        ("huleedu.assessment.result.published.v1", {"cj_assessment_job_id": "job"}, "job"),
        ("huleedu.cj_assessment.completed.v1", {}, "aggregate"),
        ("huleedu.batch.essays.registered.v1", {"batch_id": "batch"}, "batch"),
        ("huleedu.class.student.created.v1", {"batch_id": "batch"}, "batch"),
        ("huleedu.essay.slot.assigned.v1", {"entity_ref": "ref", "essay_id": "essay"}, "ref"),
        ("huleedu.essay.slot.assigned.v1", {"essay_id": "essay"}, "essay"),
        ("huleedu.class.created.v1", {"batch_id": "batch"}, "aggregate"),
        ("huleedu.essay.slot.assigned.v1", None, "aggregate"),
    ],
)
def test_resolve_partition_key(event_type: str, metadata: dict[str, Any] | None, expected: str) -> None:
    """The id that keeps a family of events in order, or the aggregate's."""
    assert resolve_partition_key(event_type, "aggregate", metadata) == expected
