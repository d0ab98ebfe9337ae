"""Hands messages that a resilient publisher could not send to the outbox, whose relay sends them in time.

Give one to `ResilientKafkaPublisher`: with an `OutboxSpill` what a stop would lose becomes rows, with an
`OutboxHandover` every message that cannot be sent at once, so that a crash loses nothing either.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.outbox.settings import MAX_RETRIES

__all__ = ["OutboxHandover", "OutboxSpill"]

_MOST_REMEMBERED = 10_000  # rows that are looked at when a publisher starts
_ENOUGH = 100  # keys that may be remembered without asking whether they still wait


class OutboxSpill:
    """Writes each message as a row; the relay owns it from then on.

    Args:
        repository: Where to.
        aggregate_type: Of the rows.
    """

    def __init__(self, repository: OutboxRepositoryProtocol, aggregate_type: str = "spilled_message") -> None:
        self._repository = repository
        self._aggregate_type = aggregate_type

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Add the rows, in order."""
        for message in messages:
            await self._add(message)

    async def load(self) -> list[QueuedMessage[Any]]:
        """Nothing: the relay sends the rows."""
        return []

    async def _add(self, message: QueuedMessage[Any]) -> UUID:
        fields = message.envelope.model_dump(mode="json")
        fields["topic"] = message.topic
        if message.headers:
            fields["headers"] = message.headers
        return await self._repository.add_event(
            aggregate_id=message.key or str(message.envelope.event_id),
            aggregate_type=self._aggregate_type,
            event_type=message.envelope.event_type,
            event_data=fields,
            topic=message.topic,
            event_key=message.key,
        )


class OutboxHandover(OutboxSpill):
    """Writes each message as a row at the moment in which it cannot be sent.

    As long as a row of a key waits, later messages of that key become rows, too, and so keep their order.

    Args:
        repository: Where to.
        aggregate_type: Of the rows.
        max_retries: The relay's: a row that has failed so often is parked, and nobody waits for it.
        timeout_s: For each statement. Short: a caller of `publish` waits for it.
    """

    def __init__(
        self,
        repository: OutboxRepositoryProtocol,
        aggregate_type: str = "spilled_message",
        *,
        max_retries: int = MAX_RETRIES,
        timeout_s: float = 5.0,
    ) -> None:
        super().__init__(repository, aggregate_type)
        self._max_retries = max_retries
        self._timeout_s = timeout_s
        self._last: dict[tuple[str, str], UUID] = {}  # the last row of each key that may be waiting, oldest first

    async def load(self) -> list[QueuedMessage[Any]]:
        """Nothing: the relay sends the rows. Remembered is which keys of an earlier life wait."""
        async with asyncio.timeout(self._timeout_s):
            waiting = await self._repository.get_unpublished_events(_MOST_REMEMBERED)
        for event in waiting:
            if event.aggregate_type == self._aggregate_type and event.event_key:
                self._last[event.topic, event.event_key] = event.id
        return []

    async def take(self, message: QueuedMessage[Any]) -> None:
        """Add the row."""
        await self._forget_the_oldest()
        async with asyncio.timeout(self._timeout_s):
            number = await self._add(message)
        if message.order is not None:
            self._last.pop(message.order, None)
            self._last[message.order] = number

    async def holds(self, topic: str, key: str | None) -> bool:
        """Whether a row of that topic and key waits for the relay."""
        if not key:
            return False
        number = self._last.get((topic, key))
        if number is None:
            return False
        async with asyncio.timeout(self._timeout_s):
            event = await self._repository.get_event_by_id(number)
        if event is not None and event.published_at is None and event.retry_count < self._max_retries:
            return True
        if self._last.get((topic, key)) == number:  # nobody has added one meanwhile
            del self._last[topic, key]
        return False

    async def _forget_the_oldest(self) -> None:
        """One look with each new row keeps the memory of keys as short as the backlog."""
        oldest = next(iter(self._last), None)
        if oldest is not None and len(self._last) > _ENOUGH:
            await self.holds(*oldest)
