"""The relay over doubles: what it does with events, failures and outages."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any
from unittest.mock import AsyncMock, patch
from uuid import uuid4

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.adapter import RepositoryBatchStore
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.protocols import (
    AtomicRedisClientProtocol,
    KafkaPublisherProtocol,
)

from ..waiting import until
from .doubles import BatchingPublisher, Event, Publisher, Repository
from .relays import QUICK, SLOW, make_relay


@pytest.mark.parametrize("publisher_type", [Publisher, BatchingPublisher])
async def test_an_event_is_published_and_marked(publisher_type: type[Publisher]) -> None:
    """The first look is immediate: published and marked although the poll interval is a minute."""
    repository, publisher = Repository(Event()), publisher_type()
    async with make_relay(repository, publisher, SLOW):
        await until(lambda: not repository.waiting)
    batches = publisher.batches if isinstance(publisher, BatchingPublisher) else [publisher.published]
    assert [len(batch) for batch in batches] == [1]


async def test_publish_is_called_with_keywords_of_the_row() -> None:
    """Topic and key come from the row, the envelope from what is stored, headers are the standard ones."""
    publisher = AsyncMock(spec=KafkaPublisherProtocol)
    event = Event(event_data={"data": {"n": 1}, "topic": "elsewhere"})
    repository = Repository(event)
    async with make_relay(repository, publisher):
        await until(lambda: not repository.waiting)
    call = publisher.publish.call_args
    assert call.args == ()
    assert (call.kwargs["topic"], call.kwargs["key"]) == ("test.topic", "essay-1")
    assert call.kwargs["envelope"].data == {"n": 1}
    assert call.kwargs["headers"]["event_id"] == str(event.id)


async def test_fifteen_events_in_batches_of_five() -> None:
    """Full batches follow each other without a pause, oldest first."""
    events = [Event(event_key=f"k{n % 3}") for n in range(15)]
    repository, publisher = Repository(*events), Publisher()
    settings = OutboxSettings(batch_size=5, poll_interval_seconds=60.0)
    async with make_relay(repository, publisher, settings):
        await until(lambda: not repository.waiting)
    assert [one.envelope.event_id for one in publisher.published] == [event.id for event in events]


async def test_a_failure_is_counted_at_once() -> None:
    """The first attempt's failure is stored at once, with the error's text, whatever the poll interval."""
    repository, publisher = Repository(Event()), Publisher()
    publisher.error = RuntimeError("Kafka says no")
    async with make_relay(repository, publisher, SLOW):
        await until(lambda: repository.retries)
    assert "Kafka says no" in repository.retries[0][1]


async def test_poison_is_parked_after_its_attempts_and_its_key_goes_on() -> None:
    """After ``max_retries`` attempts it is reported once; the next event of the key follows, others never waited."""
    poison, behind, other = Event(event_key="bad", topic="bad"), Event(event_key="bad"), Event(event_key="ok")
    repository = Repository(poison, behind, other)

    class Selective(Publisher):
        async def publish(self, topic: str, *args: Any, **kwargs: Any) -> None:
            if topic == "bad":
                raise ValueError("cannot be sent")
            await super().publish(topic, *args, **kwargs)

    publisher = Selective()
    settings = OutboxSettings(poll_interval_seconds=0.01, max_retries=3, error_retry_interval_seconds=0.02)
    async with make_relay(repository, publisher, settings):
        await until(lambda: repository.failures and len(publisher.published) == 2)
        await asyncio.sleep(0.1)
    assert [one.envelope.event_id for one in publisher.published] == [other.id, behind.id]
    assert len(repository.retries) == 3
    assert len(repository.failures) == 1
    assert "Exceeded max retries" in repository.failures[0][1]


async def test_an_event_past_its_retries_is_reported_and_not_published() -> None:
    """It is reported once through ``mark_event_failed``, and the relay does not spin on it."""
    repository, publisher = Repository(Event(retry_count=5)), Publisher()
    async with make_relay(repository, publisher, OutboxSettings(poll_interval_seconds=0.05)):
        began = monotonic()
        await until(lambda: repository.failures)
        await asyncio.sleep(0.2)
        took_s = monotonic() - began
    assert "Exceeded max retries" in repository.failures[0][1]
    assert len(repository.failures) == 1
    assert publisher.published == []
    assert repository.fetches <= 3 + 20 * took_s


async def test_parked_events_do_not_starve_the_others() -> None:
    """A whole batch of parked rows in front leaves room for the event behind."""
    good = Event(event_key="good")
    repository = Repository(*[Event(retry_count=9, event_key=f"p{n}") for n in range(10)], good)
    publisher = Publisher()
    async with make_relay(repository, publisher, OutboxSettings(batch_size=5, poll_interval_seconds=0.01)):
        await until(lambda: publisher.published)
    assert publisher.published[0].envelope.event_id == good.id


@pytest.mark.parametrize("publisher_type", [Publisher, BatchingPublisher])
async def test_an_outage_parks_nothing(publisher_type: type[Publisher]) -> None:
    """While the broker is away no attempt is counted (one at most, where publishers raise what they like)."""
    events = [Event() for _ in range(3)]
    repository, publisher = Repository(*events), publisher_type()
    publisher.error = KafkaConnectionError("no broker")
    if isinstance(publisher, BatchingPublisher):
        publisher.outage = publisher.error
    async with make_relay(repository, publisher):
        began = monotonic()
        await asyncio.sleep(0.2)
        assert repository.fetches < 2 + 200 * (monotonic() - began)  # without a pause thousands
        publisher.error = None
        if isinstance(publisher, BatchingPublisher):
            publisher.outage = None
        await until(lambda: not repository.waiting)
    assert len(repository.retries) == (1 if publisher_type is Publisher else 0)
    assert repository.failures == []


async def test_poison_in_the_middle_of_a_batch_holds_back_its_own_key_only() -> None:
    """One batch: the poisoned key stops, every other key is completed."""
    events = [Event(event_key=key) for key in ("a", "bad", "a", "bad", "b")]
    repository, publisher = Repository(*events), BatchingPublisher()
    publisher.poison.add(b"bad")
    async with make_relay(repository, publisher, OutboxSettings(poll_interval_seconds=5.0)):
        await until(lambda: repository.retries)
        await until(lambda: len(repository.waiting) == 2)
    assert [event.event_key for event in repository.waiting] == ["bad", "bad"]


async def test_starting_twice_runs_one_loop() -> None:
    """The second start is a no-op: nothing is published twice."""
    repository, publisher = Repository(*[Event() for _ in range(20)]), Publisher()
    async with make_relay(repository, publisher) as worker:
        await worker.start()
        await until(lambda: not repository.waiting)
    assert len(publisher.published) == 20


async def test_stop_is_harmless_at_any_time_and_start_works_again() -> None:
    """Stop before start, twice, right after start; then the same worker runs again."""
    repository, publisher = Repository(), Publisher()
    worker = EventRelayWorker(repository, publisher, QUICK, "svc")
    await worker.stop()
    alive = [worker.is_running]
    await worker.start()
    alive.append(worker.is_running)
    await worker.stop()
    await worker.stop()
    alive.append(worker.is_running)
    assert alive == [False, True, False]
    event = Event()
    repository.rows[event.id] = event
    await worker.start()
    await until(lambda: not repository.waiting)
    await worker.stop()
    assert worker._task is None


async def test_stop_finishes_the_batch_in_flight() -> None:
    """What is being published when stop is called is marked, not sent again."""
    repository = Repository(Event())
    gate, entered = asyncio.Event(), asyncio.Event()

    class Slow(Publisher):
        async def publish(self, *args: Any, **kwargs: Any) -> None:
            entered.set()
            await gate.wait()
            await super().publish(*args, **kwargs)

    publisher = Slow()
    worker = EventRelayWorker(repository, publisher, QUICK, "svc")
    await worker.start()
    await entered.wait()
    stopping = asyncio.create_task(worker.stop())
    await asyncio.sleep(0)
    gate.set()
    await stopping
    assert repository.waiting == []


async def test_settings_are_read_as_it_goes() -> None:
    """Assigning to a field after the start takes effect."""
    repository, publisher = Repository(), Publisher()
    settings = OutboxSettings(poll_interval_seconds=0.01, max_retries=5)
    async with make_relay(repository, publisher, settings):
        settings.max_retries = 1
        event = Event(retry_count=1)
        repository.rows[event.id] = event
        await until(lambda: repository.failures)


async def test_metrics_follow_the_setting() -> None:
    """``metrics`` is an `OutboxMetrics` with the service's label, or ``None`` when they are off."""
    on = EventRelayWorker(Repository(), Publisher(), OutboxSettings(), "svc")
    off = EventRelayWorker(Repository(), Publisher(), OutboxSettings(enable_metrics=False), "svc")
    assert isinstance(on.metrics, OutboxMetrics)
    assert on.metrics.service_name == "svc"
    assert off.metrics is None
    assert on.wake_key == "outbox:wake:svc"


async def test_idle_waiting_uses_blpop_and_a_token_wakes() -> None:
    """With Redis the relay listens with BLPOP by keyword; a token means: look again now."""
    tokens: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    calls: list[dict[str, Any]] = []
    redis = AsyncMock(spec=AtomicRedisClientProtocol)

    async def blpop(**kwargs: Any) -> tuple[str, str]:
        calls.append(kwargs)
        return await tokens.get()

    redis.blpop.side_effect = blpop
    repository, publisher = Repository(), Publisher()
    settings = OutboxSettings(poll_interval_seconds=60.0)
    async with make_relay(repository, publisher, settings, redis_client=redis) as worker:
        worker._empty_looks = 100
        await until(lambda: repository.fetches >= 1)
        event = Event()
        repository.rows[event.id] = event
        fetches = repository.fetches
        await tokens.put((worker.wake_key, "wake"))
        await until(lambda: not repository.waiting)
        assert repository.fetches > fetches
    assert calls[0] == {"keys": ["outbox:wake:svc"], "timeout": 2.0}
    redis.lpush.assert_awaited_with("outbox:wake:svc", "stop")


async def test_a_mock_that_answers_at_once_does_not_make_the_relay_spin() -> None:
    """A double whose BLPOP returns immediately costs looks at the coalescing interval at most."""
    repository = Repository()
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.blpop.return_value = None
    async with make_relay(repository, Publisher(), OutboxSettings(poll_interval_seconds=1.0), redis_client=redis):
        began = monotonic()
        await asyncio.sleep(0.2)
        took_s = monotonic() - began  # more, where others keep the machine busy
    assert repository.fetches < 2 + 20 * took_s


def test_construction_needs_no_loop() -> None:
    """A container may build the worker before any loop runs."""
    make: Callable[[], EventRelayWorker] = lambda: EventRelayWorker(Repository(), Publisher(), QUICK, "svc")  # noqa: E731
    assert make()._running is False


async def test_the_worker_is_a_context_manager() -> None:
    """Started inside, stopped afterwards."""
    async with EventRelayWorker(Repository(), Publisher(), QUICK, "svc") as worker:
        assert worker.is_running
    assert not worker.is_running


class Bare:
    """A row that lacks what a test did not need."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(
            {"id": uuid4(), "aggregate_id": "a", "event_type": "e", "event_data": {}, "event_key": "k", "topic": "t"}
        )
        self.__dict__.update({"retry_count": 0} | fields)


async def test_rows_of_tests_may_lack_attributes() -> None:
    """A row without times and errors is published; one without them that is used up is parked."""
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    fresh, exhausted = Bare(), Bare(retry_count=5)
    repository.get_unpublished_events.return_value = [exhausted, fresh]
    async with make_relay(repository, AsyncMock(spec=KafkaPublisherProtocol), QUICK):
        await until(lambda: repository.mark_event_published.called and repository.mark_event_failed.called)
    assert repository.mark_event_published.call_args.args == (fresh.__dict__["id"],)
    assert "Exceeded max retries" in repository.mark_event_failed.call_args.kwargs["error"]


async def test_overridden_methods_are_called_instead_of_the_native_ones() -> None:
    """Who overrides ``publish`` of a batch publisher, or patches it, is called; batches go past nobody."""

    class Watched(BatchingPublisher):
        async def publish(self, *args: Any, **kwargs: Any) -> None:
            await super().publish(*args, **kwargs)

    repository, publisher = Repository(Event()), Watched()
    async with make_relay(repository, publisher):
        await until(lambda: not repository.waiting)
    assert (len(publisher.published), publisher.batches) == (1, [])
    with patch.object(BatchingPublisher, "publish", AsyncMock()) as patched:
        repository = Repository(Event())
        async with make_relay(repository, BatchingPublisher()):
            await until(lambda: not repository.waiting)
    patched.assert_awaited_once()


async def test_a_redis_double_with_only_two_methods_wakes_the_relay() -> None:
    """BLPOP and LPUSH are enough: a token means look again now, whatever trimming the list says."""
    tokens: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    class Two:
        async def blpop(self, keys: list[str], timeout: float) -> tuple[str, str]:  # noqa: ASYNC109
            return await tokens.get()

        async def lpush(self, key: str, *values: str) -> int:
            return 1

    repository = Repository()
    settings = OutboxSettings(poll_interval_seconds=60.0)
    async with make_relay(repository, Publisher(), settings, redis_client=Two()) as worker:
        worker._empty_looks = 100
        await until(lambda: repository.fetches >= 1)
        event = Event()
        repository.rows[event.id] = event
        await tokens.put((worker.wake_key, "wake"))
        await until(lambda: not repository.waiting)


async def test_stop_keeps_what_single_envelopes_were_acknowledged() -> None:
    """A stop in the middle of a batch of single envelopes ends it between two; what arrived is marked."""
    repository = Repository(*[Event(event_key=f"k{n}") for n in range(50)])
    started = asyncio.Event()

    class Slow(Publisher):
        async def publish(self, *args: Any, **kwargs: Any) -> None:
            await super().publish(*args, **kwargs)
            started.set()
            await asyncio.sleep(0.05)

    publisher = Slow()
    async with make_relay(repository, publisher):
        await started.wait()
    assert 0 < len(publisher.published) < 50
    assert len(repository.waiting) == 50 - len(publisher.published)


async def test_an_overridden_method_keeps_relays_apart() -> None:
    """A repository with a store of its own keeps it for reading; results go through the overridden method."""
    marked: list[Any] = []
    inner = Repository(Event())

    class Native:
        def batch_store(self) -> Any:
            return RepositoryBatchStore(inner)

        async def mark_event_published(self, event_id: Any) -> None:
            await inner.mark_event_published(event_id)

    class Traced(Native):
        async def mark_event_published(self, event_id: Any) -> None:
            marked.append(event_id)
            await super().mark_event_published(event_id)

    with capture_logs() as logs:
        async with EventRelayWorker(Traced(), BatchingPublisher(), QUICK, "svc"):  # type: ignore[arg-type]  # as above
            await until(lambda: not inner.waiting)
    assert len(marked) == 1
    assert "outbox_repository_methods_overridden" in [line["event"] for line in logs]
