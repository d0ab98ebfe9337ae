"""Hand-written doubles, as services write them: a repository of six methods, publishers, events."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from common_core import EventEnvelope
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage


@dataclass(frozen=True, kw_only=True)
class Event:
    """An outbox row in memory."""

    id: UUID = field(default_factory=uuid7)
    aggregate_id: str = "essay-1"
    aggregate_type: str = "essay"
    event_type: str = "test.event.v1"
    event_data: dict[str, Any] = field(default_factory=lambda: {"data": {"n": 1}})
    event_key: str | None = "essay-1"
    topic: str = "test.topic"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    published_at: datetime | None = None
    retry_count: int = 0
    last_error: str | None = None


class Repository:
    """Exactly the six methods of the protocol, over a list."""

    def __init__(self, *events: Event) -> None:
        self.rows: dict[UUID, Event] = {event.id: event for event in events}
        self.fetches = 0
        self.failures: list[tuple[UUID, str]] = []
        self.retries: list[tuple[UUID, str]] = []
        self.fetch_errors: list[Exception] = []

    async def add_event(
        self,
        aggregate_id: str,
        aggregate_type: str,
        event_type: str,
        event_data: dict[str, Any],
        topic: str,
        event_key: str | None = None,
        session: Any = None,
    ) -> UUID:
        event = Event(
            aggregate_id=aggregate_id,
            aggregate_type=aggregate_type,
            event_type=event_type,
            event_data=event_data,
            topic=topic,
            event_key=event_key,
        )
        self.rows[event.id] = event
        return event.id

    async def get_unpublished_events(self, limit: int = 100) -> list[Any]:
        self.fetches += 1
        if self.fetch_errors:
            raise self.fetch_errors.pop(0)
        return [event for event in self.rows.values() if event.published_at is None][:limit]

    async def mark_event_published(self, event_id: UUID) -> None:
        self.rows[event_id] = replace(self.rows[event_id], published_at=datetime.now(UTC))

    async def mark_event_failed(self, event_id: UUID, error: str) -> None:
        self.failures.append((event_id, error))

    async def increment_retry_count(self, event_id: UUID, error: str) -> None:
        self.retries.append((event_id, error))
        event = self.rows[event_id]
        self.rows[event_id] = replace(event, retry_count=event.retry_count + 1, last_error=error)

    async def get_event_by_id(self, event_id: UUID) -> Any:
        return self.rows.get(event_id)

    @property
    def waiting(self) -> list[Event]:
        return [event for event in self.rows.values() if event.published_at is None]


@dataclass
class Published:
    """One call of ``publish``."""

    topic: str
    envelope: EventEnvelope[Any]
    key: str | None
    headers: dict[str, str] | None


class Publisher:
    """Publishes into a list; fails as told."""

    def __init__(self) -> None:
        self.published: list[Published] = []
        self.errors: dict[str | None, Exception] = {}
        self.error: Exception | None = None

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def publish(
        self,
        topic: str,
        envelope: EventEnvelope[Any],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        error = self.error or self.errors.get(key)
        if error is not None:
            raise error
        self.published.append(Published(topic, envelope, key, headers))


class BatchingPublisher(Publisher):
    """Takes batches too; a message with a value in ``poison`` fails for good."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[OutgoingMessage]] = []
        self.poison: set[bytes] = set()
        self.outage: Exception | None = None

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        self.batches.append(list(messages))
        if self.outage is not None:
            return [DeliveryOutcome(error=self.outage, transient=True)] * len(messages)
        outcomes = []
        broken: set[bytes | None] = set()
        for message in messages:
            if message.key in broken:
                outcomes.append(DeliveryOutcome(error=RuntimeError("behind poison"), attempted=False))
            elif message.key in self.poison:
                broken.add(message.key)
                outcomes.append(DeliveryOutcome(error=ValueError("poison")))
            else:
                outcomes.append(DeliveryOutcome())
        return outcomes
