"""Section 2.2: the fallback queue. First in, first out, bounded, in memory."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

import pytest

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[2.2-queued-message]
class kafka.fallback_handler:QueuedMessage(topic, envelope, key, queued_at, retry_count=0, headers=None)
[2.2-queue-signatures]
class kafka.fallback_handler:FallbackMessageHandler(max_queue_size=1000, retry_interval=30, max_retries=5)
async kafka.fallback_handler:FallbackMessageHandler.queue_message(message)
async kafka.fallback_handler:FallbackMessageHandler.get_next_message()
def kafka.fallback_handler:FallbackMessageHandler.has_queued_messages()
def kafka.fallback_handler:FallbackMessageHandler.queue_size()
async kafka.fallback_handler:FallbackMessageHandler.clear_queue()
def kafka.fallback_handler:FallbackMessageHandler.get_metrics()
def kafka.fallback_handler:FallbackMessageHandler.is_message_expired(message, max_age_seconds=3600)
async kafka.fallback_handler:FallbackMessageHandler.cleanup_expired_messages(max_age_seconds=3600)
"""


@pytest.mark.parametrize("wanted", lines("02 fallback queue", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


class _TenSecondsAgo(datetime):
    """A time that is ten seconds away from whatever it is compared with, to the microsecond."""

    def __rsub__(self, other: Any) -> timedelta:
        return timedelta(seconds=10)


def _message(topic: str = "t", age: float = 0) -> QueuedMessage[Any]:
    envelope: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="svc", data={})
    return QueuedMessage(topic, envelope, None, datetime.now(UTC) - timedelta(seconds=age))


@pytest.mark.contract("2.2-queued-message")
def test_a_message_is_a_mutable_dataclass() -> None:
    """Six fields in order; the count and the headers may be left out, and every field can be assigned."""
    assert [field.name for field in dataclasses.fields(QueuedMessage)] == [
        "topic",
        "envelope",
        "key",
        "queued_at",
        "retry_count",
        "headers",
    ]
    message = _message()
    assert (message.retry_count, message.headers) == (0, None)
    message.retry_count += 1
    message.headers = {"h": "v"}
    assert dataclasses.replace(message).retry_count == 1
    assert Generic in QueuedMessage.__mro__


@pytest.mark.contract("2.2-queue-fifo", "2.2-queue-signatures")
async def test_first_in_first_out() -> None:
    """Messages come out in the order they went in, as the same objects, and then there is none."""
    queue, messages = FallbackMessageHandler(), [_message(str(n)) for n in range(3)]
    assert (queue.has_queued_messages(), queue.queue_size(), await queue.get_next_message()) == (False, 0, None)
    for message in messages:
        await queue.queue_message(message)
    assert (queue.has_queued_messages(), queue.queue_size()) == (True, 3)
    taken = [await queue.get_next_message() for _ in range(4)]
    assert all(got is put for got, put in zip(taken, [*messages, None], strict=True))


@pytest.mark.contract("2.2-queue-limit")
async def test_a_full_queue_refuses() -> None:
    """What is in it stays; the newcomer is refused by an exception that says why."""
    queue, first = FallbackMessageHandler(max_queue_size=1), _message()
    await queue.queue_message(first)
    with pytest.raises(Exception, match="Fallback queue is full"):
        await queue.queue_message(_message())
    assert (queue.queue_size(), await queue.get_next_message()) == (1, first)


@pytest.mark.contract("2.2-queue-clear")
async def test_clearing() -> None:
    """The number that was removed, and nothing after it."""
    queue = FallbackMessageHandler()
    for _ in range(3):
        await queue.queue_message(_message())
    assert (await queue.clear_queue(), queue.queue_size(), await queue.clear_queue()) == (3, 0, 0)


@pytest.mark.contract("2.2-queue-metrics")
async def test_figures_of_the_fallback_queue() -> None:
    """Six names; totals count since construction, and the use of the room is a share."""
    queue = FallbackMessageHandler(max_queue_size=2)
    await queue.queue_message(_message())
    await queue.queue_message(_message())
    with pytest.raises(Exception, match="full"):
        await queue.queue_message(_message())
    await queue.get_next_message()
    assert queue.get_metrics() == {
        "current_queue_size": 1,
        "max_queue_size": 2,
        "total_queued": 2,
        "total_processed": 1,
        "total_dropped": 1,
        "queue_utilization": 0.5,
    }


@pytest.mark.contract("2.2-queue-expiry")
def test_expiry() -> None:
    """An hour by default; what is exactly as old as the limit has not expired."""
    queue = FallbackMessageHandler()
    assert not queue.is_message_expired(_message(age=3590))
    assert queue.is_message_expired(_message(age=3601))
    assert queue.is_message_expired(_message(age=11), max_age_seconds=10)
    exact = dataclasses.replace(_message(), queued_at=_TenSecondsAgo(2025, 1, 1, tzinfo=UTC))
    assert not queue.is_message_expired(exact, max_age_seconds=10)
    assert queue.is_message_expired(exact, max_age_seconds=9)


@pytest.mark.contract("2.2-queue-cleanup")
async def test_cleaning_up() -> None:
    """Expired messages go and are counted; the others keep their order."""
    queue = FallbackMessageHandler()
    for topic, age in (("old-1", 100), ("new-1", 0), ("old-2", 100), ("new-2", 0)):
        await queue.queue_message(_message(topic, age))
    assert await queue.cleanup_expired_messages(max_age_seconds=50) == 2
    left = [await queue.get_next_message() for _ in range(2)]
    assert [message.topic for message in left if message] == ["new-1", "new-2"]
    assert await queue.cleanup_expired_messages() == 0
