"""A queue in memory for messages that could not be sent: first in, first out, and bounded.

`ResilientKafkaPublisher` fills and empties it. It knows no Kafka and sends nothing itself.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _clock
from huleedu_service_libs.protocols import T_EventPayload

__all__ = ["FallbackMessageHandler", "FallbackQueueFullError", "QueuedMessage"]


class FallbackQueueFullError(Exception):
    """The queue holds as many messages as it may.

    Attributes:
        size: How many that is.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size

    def __str__(self) -> str:
        return (
            f"Fallback queue is full ({self.size} messages): the broker has been away for too long. "
            "Raise max_queue_size, or let the outbox take the events"
        )


@dataclass
class QueuedMessage(Generic[T_EventPayload]):
    """A message that waits.

    Attributes:
        topic: Where to.
        envelope: The event.
        key: Messages of one topic and key keep their order.
        queued_at: When it came, with time zone.
        retry_count: How often sending it has failed since.
        headers: Sent with it.
    """

    topic: str
    envelope: EventEnvelope[T_EventPayload]
    key: str | None
    queued_at: datetime
    retry_count: int = 0
    headers: dict[str, str] | None = None

    @property
    def order(self) -> tuple[str, str] | None:
        """What it must keep its order with; ``None`` without a key."""
        return (self.topic, self.key) if self.key else None

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return f"{self.topic}[{self.key or ''}] {self.envelope.event_type} {self.envelope.event_id}"


class FallbackMessageHandler:
    """Keeps messages until they can be sent.

    Args:
        max_queue_size: How many it holds.
        retry_interval: Seconds between attempts, for a publisher that has no interval of its own.
        max_retries: Failures after which a message that is refused for its content is dropped.
    """

    def __init__(
        self,
        max_queue_size: int = 1000,
        retry_interval: int = 30,
        max_retries: int = 5,
        *,
        now: _clock.Now = _clock.utc_now,
    ) -> None:
        self.max_queue_size = max_queue_size
        self.retry_interval = retry_interval
        self.max_retries = max_retries
        self._now = now
        self._messages: deque[QueuedMessage[Any]] = deque()  # bound: max_queue_size, see queue_message
        self._orders: Counter[tuple[str, str]] = Counter()
        self._total_queued = self._total_processed = self._total_dropped = 0

    async def queue_message(self, message: QueuedMessage[Any]) -> None:
        """Add a message at the end.

        Raises:
            FallbackQueueFullError: There is no room; the message is not kept.
        """
        if len(self._messages) >= self.max_queue_size:
            self._total_dropped += 1
            raise FallbackQueueFullError(self.max_queue_size)
        self._messages.append(message)
        self._total_queued += 1
        if message.order is not None:
            self._orders[message.order] += 1

    async def get_next_message(self) -> QueuedMessage[Any] | None:
        """Take the oldest message out; ``None`` when there is none. Does not wait."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._forget_order(message)
        self._total_processed += 1
        return message

    def put_back(self, message: QueuedMessage[Any]) -> None:
        """Return a message that was taken out to the front, where it keeps its order; always has room."""
        self._messages.appendleft(message)
        self._total_processed -= 1
        if message.order is not None:
            self._orders[message.order] += 1

    def restore(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Put messages of an earlier life before what waits already; always has room."""
        for message in reversed(messages):
            self._messages.appendleft(message)
            self._total_queued += 1
            if message.order is not None:
                self._orders[message.order] += 1

    def drop(self, message: QueuedMessage[Any]) -> None:
        """Count a message that was taken out as given up."""
        del message
        self._total_processed -= 1
        self._total_dropped += 1

    def holds(self, topic: str, key: str | None) -> bool:
        """Whether a message of that topic and key waits."""
        return bool(key) and self._orders[topic, str(key)] > 0

    def waiting(self) -> list[QueuedMessage[Any]]:
        """The messages, oldest first; they stay."""
        return list(self._messages)

    def has_queued_messages(self) -> bool:
        """Whether any message waits."""
        return bool(self._messages)

    def queue_size(self) -> int:
        """How many messages wait."""
        return len(self._messages)

    async def clear_queue(self) -> int:
        """Throw all messages away; how many there were."""
        count = len(self._messages)
        self._messages.clear()
        self._orders.clear()
        self._total_dropped += count
        return count

    def get_metrics(self) -> dict[str, Any]:
        """Sizes, totals since construction, and the share of the room in use."""
        size = len(self._messages)
        return {
            "current_queue_size": size,
            "max_queue_size": self.max_queue_size,
            "total_queued": self._total_queued,
            "total_processed": self._total_processed,
            "total_dropped": self._total_dropped,
            "queue_utilization": size / self.max_queue_size if self.max_queue_size else 0.0,
        }

    def is_message_expired(self, message: QueuedMessage[Any], max_age_seconds: float = 3600) -> bool:
        """Whether a message has waited for longer than ``max_age_seconds``."""
        return (self._now() - message.queued_at).total_seconds() > max_age_seconds

    async def cleanup_expired_messages(self, max_age_seconds: float = 3600) -> int:
        """Throw away what has waited too long; how many that were. The rest keeps its order."""
        kept = deque(message for message in self._messages if not self.is_message_expired(message, max_age_seconds))
        removed = len(self._messages) - len(kept)
        self._messages = kept
        self._orders = Counter(message.order for message in kept if message.order is not None)
        self._total_dropped += removed
        return removed

    def _forget_order(self, message: QueuedMessage[Any]) -> None:
        order = message.order
        if order is not None:
            self._orders[order] -= 1
            if self._orders[order] <= 0:
                del self._orders[order]
