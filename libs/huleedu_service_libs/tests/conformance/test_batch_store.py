"""Every `OutboxBatchStore` does the same for the relay: PostgreSQL's own, and adapted repositories, fake and real."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.outbox.adapter import FencedAdapter, RepositoryBatchStore
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.protocols import (
    FailedEvent,
    OutboxBatchStore,
    OutboxEvent,
    OutboxRepositoryProtocol,
)
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from ..outbox.doubles import Repository

pytestmark = pytest.mark.integration

MAX_RETRIES = 2


@dataclass(frozen=True)
class Subject:
    """A store, and the repository that fills it."""

    store: OutboxBatchStore
    repository: OutboxRepositoryProtocol

    async def add(self, key: str, topic: str = "t") -> UUID:
        """Add an event of ``key``."""
        return await self.repository.add_event(
            aggregate_id=key, aggregate_type="essay", event_type="e.v1", event_data={"data": {}}, topic=topic
        )

    async def fetch(self, *held: str, limit: int = 100, topics: tuple[str, ...] = ()) -> list[UUID]:
        """Ids of the next batch."""
        return [event.id for event in await self.events(*held, limit=limit, topics=topics)]

    async def events(self, *held: str, limit: int = 100, topics: tuple[str, ...] = ()) -> list[OutboxEvent]:
        """The next batch."""
        return list(await self.store.fetch(limit=limit, max_retries=MAX_RETRIES, held_keys=held, held_topics=topics))

    async def settle(self, published: list[OutboxEvent], failed: list[OutboxEvent]) -> list[UUID]:
        """Store results; ids of what was parked."""
        parked = await self.store.settle(
            published=published,
            failed=[FailedEvent(event=event, error="no") for event in failed],
            max_retries=MAX_RETRIES,
        )
        return [event.id for event in parked]


@pytest.fixture(name="subject", params=["adapted fake", "adapted PostgreSQL", "fenced", "PostgreSQL"])
async def _subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "adapted fake":
        fake = Repository()
        yield Subject(RepositoryBatchStore(fake), fake)
        return
    engine = create_async_engine(request.getfixturevalue("postgres_database"))
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    repository = PostgreSQLOutboxRepository(engine, "svc")
    stores: dict[str, Any] = {
        "PostgreSQL": repository.batch_store,
        "fenced": lambda: FencedAdapter(repository, repository.batch_store()),
        "adapted PostgreSQL": lambda: RepositoryBatchStore(repository),
    }
    store = stores[request.param]()
    yield Subject(store, repository)
    await store.close()
    await engine.dispose()


async def test_events_come_oldest_first_and_limited(subject: Subject) -> None:
    """The order is that of the additions; a batch has at most the limit."""
    ids = [await subject.add(f"k{n}") for n in range(5)]
    assert await subject.fetch() == ids
    assert await subject.fetch(limit=2) == ids[:2]


async def test_an_empty_outbox_gives_an_empty_batch(subject: Subject) -> None:
    """No events, no error."""
    assert await subject.fetch() == []


async def test_published_events_do_not_come_again(subject: Subject) -> None:
    """What is settled as published is gone; the rest stays, in order."""
    ids = [await subject.add("k") for _ in range(3)]
    events = await subject.events()
    assert await subject.settle(events[:2], []) == []
    assert await subject.fetch() == ids[2:]


async def test_held_keys_are_passed_over(subject: Subject) -> None:
    """Events of a held key are left out, also when they fill the front of the outbox."""
    for _ in range(5):
        await subject.add("held")
    free = await subject.add("free")
    assert await subject.fetch("held", limit=1) == [free]


async def test_held_topics_are_passed_over(subject: Subject) -> None:
    """Events of a topic out of reach are left out, also when they fill the front of the outbox."""
    for number in range(5):
        await subject.add(f"k{number}", topic="away")
    free = await subject.add("free")
    assert await subject.fetch(limit=1, topics=("away",)) == [free]


async def test_a_key_waits_behind_its_event_of_a_held_topic(subject: Subject) -> None:
    """What comes before that event goes, what comes after it does not, whatever its topic; other keys go."""
    before = await subject.add("k")
    await subject.add("k", topic="away")
    await subject.add("k")
    other = await subject.add("other")
    assert await subject.fetch(topics=("away",)) == [before, other]


async def test_what_is_in_flight_is_not_handed_out_again(subject: Subject) -> None:
    """Later events of its keys are: they are sent when it has arrived."""
    ids = [await subject.add("k") for _ in range(4)]
    sending = await subject.events(limit=2)
    following = await subject.store.fetch(
        limit=100, max_retries=MAX_RETRIES, held_keys=(), held_topics=(), in_flight=sending
    )
    assert [event.id for event in following] == ids[2:]


async def test_a_failed_event_counts_and_comes_again(subject: Subject) -> None:
    """One attempt more, the error stored, still in its place."""
    ids = [await subject.add("k") for _ in range(2)]
    events = await subject.events()
    assert await subject.settle([], events[:1]) == []
    again = await subject.events()
    assert [event.id for event in again] == ids
    assert (again[0].retry_count, again[0].last_error) == (1, "no")


async def test_the_last_attempt_parks(subject: Subject) -> None:
    """After as many failures as allowed the event is parked with its cause, and its successor comes."""
    ids = [await subject.add("k") for _ in range(2)]
    assert await subject.settle([], (await subject.events())[:1]) == []
    assert await subject.settle([], (await subject.events())[:1]) == ids[:1]
    assert await subject.fetch() == ids[1:]
    parked = await subject.repository.get_event_by_id(ids[0])
    assert parked is not None
    assert parked.published_at is None


async def test_an_exhausted_event_is_never_handed_out(subject: Subject) -> None:
    """A row that some earlier process has used up stays where it is."""
    exhausted = await subject.add("k")
    for _ in range(MAX_RETRIES):
        await subject.repository.increment_retry_count(exhausted, "no")
    fresh = await subject.add("k")
    assert await subject.fetch() == [fresh]


async def test_close_may_come_at_any_time(subject: Subject) -> None:
    """Before the first batch, twice, and a store can be used again afterwards."""
    await subject.store.close()
    await subject.store.close()
    row_id = await subject.add("k")
    assert await subject.fetch() == [row_id]
