"""The ports of the outbox.

Services implement or mock `OutboxRepositoryProtocol`; it keeps exactly the six
methods that they know. What the relay itself works with is the batch port,
`OutboxBatchStore`: the PostgreSQL repository offers it natively, and any
repository of six methods is adapted to it, so that there is one relay loop.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

__all__ = [
    "EventTypeMapperProtocol",
    "FailedEvent",
    "OutboxBatchStore",
    "OutboxEvent",
    "OutboxRepositoryProtocol",
]


class OutboxEvent(Protocol):
    """One row of the outbox, read only."""

    @property
    def id(self) -> UUID:
        """Identity of the row; rows of one transaction sort by it in the order of their addition."""
        ...

    @property
    def aggregate_id(self) -> str:
        """What the event is about."""
        ...

    @property
    def aggregate_type(self) -> str:
        """Of which kind that is."""
        ...

    @property
    def event_type(self) -> str:
        """Name and version of the event."""
        ...

    @property
    def event_data(self) -> dict[str, Any]:
        """The stored envelope."""
        ...

    @property
    def event_key(self) -> str | None:
        """Partition key; the aggregate id stands in for a missing one."""
        ...

    @property
    def topic(self) -> str:
        """Where it goes."""
        ...

    @property
    def created_at(self) -> datetime:
        """When it was added, on the database's clock; without time zone in some tables."""
        ...

    @property
    def published_at(self) -> datetime | None:
        """When the broker had acknowledged it, or ``None``."""
        ...

    @property
    def retry_count(self) -> int:
        """Attempts that failed for reasons of the event itself."""
        ...

    @property
    def last_error(self) -> str | None:
        """The last of those reasons."""
        ...


class OutboxRepositoryProtocol(Protocol):
    """Storage of outbox rows."""

    async def add_event(
        self,
        aggregate_id: str,
        aggregate_type: str,
        event_type: str,
        event_data: dict[str, Any],
        topic: str,
        event_key: str | None = None,
        session: AsyncSession | None = None,
    ) -> UUID:
        """Add a row, in the transaction of ``session`` when there is one, else in one of its own."""
        ...

    async def get_unpublished_events(self, limit: int = 100) -> list[OutboxEvent]:
        """The oldest rows that are not published."""
        ...

    async def mark_event_published(self, event_id: UUID) -> None:
        """Note that the broker has acknowledged the event."""
        ...

    async def mark_event_failed(self, event_id: UUID, error: str) -> None:
        """Note the error of an event that is given up."""
        ...

    async def increment_retry_count(self, event_id: UUID, error: str) -> None:
        """Count a failed attempt."""
        ...

    async def get_event_by_id(self, event_id: UUID) -> OutboxEvent | None:
        """One row, or ``None``."""
        ...


class EventTypeMapperProtocol(Protocol):
    """Names the topic of an event type."""

    def get_topic_for_event(self, event_type: str) -> str:
        """The topic.

        Raises:
            ValueError: The event type has none.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedEvent:
    """An attempt that failed because of the event itself.

    Attributes:
        event: The row.
        error: Why, for people.
    """

    event: OutboxEvent
    error: str


class OutboxBatchStore(Protocol):
    """What the relay needs of storage: batches in, results out.

    Used by one relay at a time, one call after the other. Any method may raise when the storage
    is out of reach: the relay backs off and calls again.
    """

    @property
    def shared(self) -> bool:
        """Whether events may become ready without a wake-up: other relays, or running writers, own a part of them."""
        ...

    async def fetch(
        self,
        *,
        limit: int,
        max_retries: int,
        held_keys: Collection[str],
        held_topics: Collection[str],
        in_flight: Sequence[OutboxEvent] = (),
    ) -> Sequence[OutboxEvent]:
        """The oldest unpublished events that this relay owns.

        Args:
            limit: At most so many.
            max_retries: Events with so many failed attempts are parked and not returned.
            held_keys: Keys that wait for their next attempt; none of their events is returned.
            held_topics: Topics that cannot be reached now; none of their events is returned.
            in_flight: Events that the last ``fetch`` returned and that are being sent; they are not returned
                again, later ones of their keys are. All others must have been settled.
        """
        ...

    async def settle(
        self, *, published: Sequence[OutboxEvent], failed: Sequence[FailedEvent], max_retries: int
    ) -> Sequence[OutboxEvent]:
        """Store the results of a batch; the events that are parked now.

        An event that ``fetch`` hands out again after ``settle`` has raised may be sent twice, never lost.
        """
        ...

    async def depth(self, *, max_retries: int) -> int | None:
        """How many events wait to be published, or ``None`` where counting is not offered."""
        ...

    async def close(self) -> None:
        """Give up what is owned; never raises."""
        ...
