"""The queue's own promises."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from common_core import EventEnvelope
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage


def message(number: int, age: float = 0) -> QueuedMessage[Any]:
    """A message with a number that came ``age`` seconds ago."""
    return QueuedMessage(
        "t",
        EventEnvelope(event_type="t.v1", source_service="s", data={"n": number}),
        "k",
        datetime.now(UTC) - timedelta(seconds=age),
    )


async def test_first_in_first_out_with_figures() -> None:
    """Order, sizes and totals; a full queue raises."""
    handler = FallbackMessageHandler(max_queue_size=2)
    assert await handler.get_next_message() is None
    first, second = message(1), message(2)
    await handler.queue_message(first)
    await handler.queue_message(second)
    with pytest.raises(Exception, match="Fallback queue is full"):
        await handler.queue_message(message(3))
    assert (handler.has_queued_messages(), handler.queue_size(), handler.holds("t", "k")) == (True, 2, True)
    assert await handler.get_next_message() is first
    assert handler.get_metrics() == {
        "current_queue_size": 1,
        "max_queue_size": 2,
        "total_queued": 2,
        "total_processed": 1,
        "total_dropped": 1,
        "queue_utilization": 0.5,
    }
    assert await handler.clear_queue() == 1
    assert (handler.queue_size(), handler.holds("t", "k")) == (0, False)


async def test_expired_messages_go_and_the_rest_keeps_its_order() -> None:
    """Strictly older than the limit."""
    handler = FallbackMessageHandler()
    messages = [message(1), message(2, age=7200), message(3), message(4, age=4000)]
    for each in messages:
        await handler.queue_message(each)
    assert handler.is_message_expired(messages[1])
    assert not handler.is_message_expired(messages[1], max_age_seconds=8000)
    assert await handler.cleanup_expired_messages() == 2
    assert handler.waiting() == [messages[0], messages[2]]


def test_a_message_by_position() -> None:
    """Field order, defaults, and mutability that services' tests use."""
    now = datetime.now(UTC)
    one = QueuedMessage("t", message(1).envelope, None, now)
    one.retry_count += 1
    assert (one.topic, one.key, one.queued_at, one.retry_count, one.headers) == ("t", None, now, 1, None)
    assert one.order is None
