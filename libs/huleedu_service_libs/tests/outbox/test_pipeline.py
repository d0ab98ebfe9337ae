"""The pipeline: one batch is delivered while the one before is stored and the next is read."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.adapter import RepositoryBatchStore
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

from ..waiting import until
from .doubles import BatchingPublisher, Event, Repository

SETTINGS = OutboxSettings(
    batch_size=2, poll_interval_seconds=0.02, error_retry_interval_seconds=0.02, enable_wake_notifications=False
)


class Store(RepositoryBatchStore):
    """Notes what it is asked, and may fail."""

    def __init__(self, repository: Repository) -> None:
        super().__init__(repository)
        self.calls: list[tuple[str, list[UUID]]] = []
        self.settle_errors: list[Exception] = []

    async def fetch(self, *, in_flight: Sequence[OutboxEvent] = (), **arguments: Any) -> Sequence[OutboxEvent]:
        events = await super().fetch(in_flight=in_flight, **arguments)
        self.calls.append(("read beside" if in_flight else "read", [event.id for event in events]))
        return events

    async def settle(
        self, *, published: Sequence[OutboxEvent], failed: Sequence[FailedEvent], max_retries: int
    ) -> Sequence[OutboxEvent]:
        self.calls.append(("store", [event.id for event in published]))
        if self.settle_errors:
            raise self.settle_errors.pop(0)
        return await super().settle(published=published, failed=failed, max_retries=max_retries)


class Owner:
    """A repository with a store of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def batch_store(self) -> Any:
        """The store."""
        return self._store


class Gated(BatchingPublisher):
    """Lets a batch through when told; notes values in the order of their arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.refused: dict[bytes, Exception] = {}
        self.away: set[str] = set()
        self.arrived: list[OutgoingMessage] = []

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        self.batches.append(list(messages))
        await self.gate.wait()
        outcomes = []
        broken: set[bytes | None] = set()
        for message in messages:
            if message.key in broken:
                outcomes.append(DeliveryOutcome(error=RuntimeError("behind"), transient=True, attempted=False))
            elif message.topic in self.away:
                broken.add(message.key)
                outcomes.append(DeliveryOutcome(error=TimeoutError("no leader"), transient=True))
            elif message.value in self.refused:
                broken.add(message.key)
                outcomes.append(DeliveryOutcome(error=self.refused[message.value]))
            else:
                self.arrived.append(message)
                outcomes.append(DeliveryOutcome())
        return outcomes


@asynccontextmanager
async def _running(
    *events: Event, settings: OutboxSettings = SETTINGS
) -> AsyncIterator[tuple[Repository, Store, Gated]]:
    repository = Repository(*events)
    store, publisher = Store(repository), Gated()
    worker = EventRelayWorker(Owner(store), publisher, settings, "svc")  # type: ignore[arg-type]  # has a store of its own
    await worker.start()
    yield repository, store, publisher
    publisher.gate.set()
    await worker.stop()


def _event_ids(messages: Collection[OutgoingMessage]) -> list[str]:
    return [dict(message.headers)["event_id"].decode() for message in messages]


async def test_the_next_batch_is_read_while_the_last_is_in_flight() -> None:
    """A full batch on its way: the two behind it are read already, and not sent before it is acknowledged."""
    events = [Event() for _ in range(5)]
    async with _running(*events) as (repository, store, publisher):
        await until(lambda: len(store.calls) == 2)
        assert store.calls[1] == ("read beside", [event.id for event in events[2:4]])
        assert len(publisher.batches) == 1
        publisher.gate.set()
        await until(lambda: not repository.waiting)
    assert _event_ids(publisher.arrived) == [str(event.id) for event in events]


async def test_a_batch_is_marked_while_the_next_is_in_flight() -> None:
    """Results are stored beside the next delivery, before anything more is read."""
    events = [Event() for _ in range(6)]
    async with _running(*events) as (repository, store, publisher):
        await until(lambda: len(publisher.batches) == 1 and len(store.calls) == 2)
        publisher.gate.set()
        await asyncio.sleep(0)
        publisher.gate.clear()
        await until(lambda: len(publisher.batches) == 2 and len(store.calls) == 4)
        assert [name for name, _ in store.calls] == ["read", "read beside", "store", "read beside"]
        assert [event.id for event in repository.waiting] == [event.id for event in events[2:]]
        publisher.gate.set()
        await until(lambda: not repository.waiting)


async def test_what_was_read_ahead_does_not_overtake_a_failure_of_its_key() -> None:
    """Poison in flight: later events of its key that were read meanwhile wait until it is parked; others go."""
    poison, other = Event(event_key="bad", event_data={"data": "no"}), Event(event_key="good")
    behind, later = Event(event_key="bad"), Event(event_key="good")
    settings = OutboxSettings(
        batch_size=2, poll_interval_seconds=0.02, error_retry_interval_seconds=0.05, max_retries=2
    )
    async with _running(poison, other, behind, later, settings=settings) as (repository, store, publisher):
        await until(lambda: len(store.calls) == 2)
        publisher.refused[publisher.batches[0][0].value] = ValueError("refused")
        publisher.gate.set()
        await until(lambda: len(repository.waiting) == 1)
    assert _event_ids(publisher.arrived) == [str(event.id) for event in (other, later, behind)]
    assert len(repository.retries) == 2
    assert "refused" in repository.failures[0][1]


async def test_what_was_read_ahead_waits_with_its_topic() -> None:
    """A topic found out of reach: its events that were read meanwhile are not tried before the topic is due again."""
    events = [Event(event_key=f"k{n}", topic="away") for n in range(4)]
    async with _running(*events) as (repository, store, publisher):
        await until(lambda: len(store.calls) == 2)
        publisher.away.add("away")
        publisher.gate.set()
        await until(lambda: len(publisher.batches) >= 2)
        assert _event_ids(publisher.batches[1]) == [str(event.id) for event in events[:2]]
        publisher.away.clear()
        await until(lambda: not repository.waiting)
    assert _event_ids(publisher.arrived) == [str(event.id) for event in events]
    assert repository.retries == []


async def test_a_storage_that_fails_in_the_middle_loses_and_reorders_nothing() -> None:
    """The delivery under way ends before anything is read again; first arrivals stay in order."""
    events = [Event() for _ in range(8)]
    with capture_logs() as logs:
        async with _running(*events) as (repository, store, publisher):
            store.settle_errors = [OSError("database is away")]
            publisher.gate.set()
            await until(lambda: not repository.waiting)
    assert list(dict.fromkeys(_event_ids(publisher.arrived))) == [str(event.id) for event in events]
    assert len(publisher.arrived) <= len(events) + 2 * SETTINGS.batch_size  # at most what was in flight, again
    assert "outbox_storage_error" in [line["event"] for line in logs]


async def test_a_relay_that_was_frozen_while_it_read_asks_before_it_sends() -> None:
    """More than ten seconds from the question to the answer: what was read is sent only when the storage still answers."""
    now = [0.0]

    class Frozen(Store):
        asked = 0

        async def fetch(self, **arguments: Any) -> Sequence[OutboxEvent]:
            now[0] += 0.0 if self.calls else 11.0
            return await super().fetch(**arguments)

        async def depth(self, *, max_retries: int) -> int | None:
            self.asked += 1
            raise OSError("the session was ended")

    repository, publisher = Repository(Event()), BatchingPublisher()
    store = Frozen(repository)
    settings = OutboxSettings(poll_interval_seconds=0.02, error_retry_interval_seconds=0.02, enable_metrics=False)
    worker = EventRelayWorker(Owner(store), publisher, settings, "svc", clock=lambda: now[0])  # type: ignore[arg-type]  # as above
    await worker.start()
    await until(lambda: store.asked == 1)
    assert publisher.batches == []
    now[0] += 1.0  # the back-off is over
    assert worker._wake is not None
    worker._wake.notify()  # it waits by a clock that stands still
    await until(lambda: not repository.waiting)
    assert (store.asked, len(publisher.batches)) == (1, 1)
    await worker.stop()


async def test_a_stop_that_waits_no_longer_leaves_no_delivery_behind() -> None:
    """The storage fails while a delivery hangs, and the relay is cancelled: the delivery is, too."""
    cancelled = asyncio.Event()

    class Hanging(BatchingPublisher):
        async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
            self.batches.append(list(messages))
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
            return []

    class Failing(Store):
        async def fetch(self, *, in_flight: Sequence[OutboxEvent] = (), **arguments: Any) -> Sequence[OutboxEvent]:
            if in_flight:
                raise OSError("database is away")
            return await super().fetch(in_flight=in_flight, **arguments)

    publisher = Hanging()
    store = Failing(Repository(*[Event() for _ in range(4)]))
    worker = EventRelayWorker(Owner(store), publisher, SETTINGS, "svc")  # type: ignore[arg-type]  # as above
    await worker.start()
    await until(lambda: publisher.batches)
    await asyncio.sleep(0.05)
    assert worker._task is not None
    worker._task.cancel()
    await asyncio.wait_for(cancelled.wait(), 5)
    await worker.stop()


async def test_stop_stores_what_was_delivered_and_sends_nothing_more() -> None:
    """A batch that was only read when the stop came is left to the next relay."""
    events = [Event() for _ in range(6)]
    repository = Repository(*events)
    store, publisher = Store(repository), Gated()
    worker = EventRelayWorker(Owner(store), publisher, SETTINGS, "svc")  # type: ignore[arg-type]  # has a store of its own
    await worker.start()
    await until(lambda: len(store.calls) == 2)
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    publisher.gate.set()
    await stopping
    assert _event_ids(publisher.arrived) == [str(event.id) for event in events[:2]]
    assert [event.id for event in repository.waiting] == [event.id for event in events[2:]]


@pytest.mark.parametrize("batch_size", [1, 3, 50])
async def test_keys_keep_their_order_whatever_fails(batch_size: int) -> None:
    """Every seventh event is refused once, topics go away and come back: each key's first arrivals are in order."""
    events = [Event(event_key=f"k{n % 5}", event_data={"data": n}) for n in range(100)]
    settings = OutboxSettings(
        batch_size=batch_size, poll_interval_seconds=0.01, error_retry_interval_seconds=0.01, max_retries=20
    )

    class Unsteady(BatchingPublisher):
        def __init__(self) -> None:
            super().__init__()
            self.arrived: defaultdict[bytes | None, list[int]] = defaultdict(list)
            self.turns = 0
            self.refused: set[bytes] = set()  # each once: in step with the batches one would be refused until parked

        async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
            await asyncio.sleep(0)
            outcomes, broken = [], set()
            for message in messages:
                self.turns += 1
                if message.key in broken:
                    outcomes.append(DeliveryOutcome(error=RuntimeError("behind"), transient=True, attempted=False))
                elif self.turns % 7 == 0 and message.value not in self.refused:
                    self.refused.add(message.value)
                    broken.add(message.key)
                    outcomes.append(DeliveryOutcome(error=TimeoutError("lost"), transient=self.turns % 2 == 0))
                else:
                    self.arrived[message.key].append(int(message.value.split(b'"data":')[1].split(b",")[0]))
                    outcomes.append(DeliveryOutcome())
            return outcomes

    repository, publisher = Repository(*events), Unsteady()
    async with EventRelayWorker(repository, publisher, settings, "svc"):
        await until(lambda: not repository.waiting, 30)
    assert publisher.arrived == {f"k{key}".encode(): list(range(key, 100, 5)) for key in range(5)}
