"""A relay when things fail: outages, poison, storage errors, topics out of reach, and doubles that never wait."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import KafkaConnectionError
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.adapter import RepositoryBatchStore
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.protocols import (
    AtomicRedisClientProtocol,
    DeliveryOutcome,
    KafkaPublisherProtocol,
    OutgoingMessage,
)

from ..waiting import until
from .doubles import BatchingPublisher, Event, Publisher, Repository
from .relays import QUICK, make_relay


class PostgreSQLLike:
    """Whatever has a batch store of its own."""


async def test_a_storage_error_is_survived() -> None:
    """The relay looks again after the error interval."""
    repository = Repository(Event())
    repository.fetch_errors = [OSError("database is away")]
    async with make_relay(repository, Publisher()):
        await until(lambda: repository.fetches >= 2)
        await until(lambda: not repository.waiting)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", "100"),
        ("max_retries", None),
        ("retention_seconds", "7d"),
        ("poll_interval_seconds", float("nan")),
    ],
)
async def test_a_setting_that_is_no_figure_is_refused_by_name(name: str, value: Any) -> None:
    """Also one that was assigned later: the start says which it is, and the relay does not run; mended, it does."""
    settings = OutboxSettings(enable_wake_notifications=False)
    right = getattr(settings, name)
    setattr(settings, name, value)
    worker = EventRelayWorker(Repository(), Publisher(), settings, "svc")
    with pytest.raises(ValueError, match=f"OutboxSettings.{name} must be a number, got {value!r}"):
        await worker.start()
    assert not worker.is_running
    setattr(settings, name, right)
    async with worker:
        assert worker.is_running


async def test_redis_away_falls_back_to_polling() -> None:
    """Errors of BLPOP are survived; polling finds the event."""
    repository, publisher = Repository(), Publisher()
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.blpop.side_effect = ConnectionError("redis is away")
    async with make_relay(repository, publisher, OutboxSettings(poll_interval_seconds=0.05), redis_client=redis):
        event = Event()
        repository.rows[event.id] = event
        await until(lambda: not repository.waiting)


async def test_a_loop_that_dies_says_why_and_can_be_started_again() -> None:
    """A fault that no back-off cures ends the loop, visibly; the next start begins anew."""
    repository = Repository(Event())

    class Faulty(PostgreSQLLike):
        broken = True

        def batch_store(self) -> Any:
            if self.broken:
                raise RuntimeError("wired wrongly")
            return RepositoryBatchStore(repository)

    storage = Faulty()
    worker = EventRelayWorker(storage, Publisher(), QUICK, "svc")  # type: ignore[arg-type]  # a repository with a store of its own
    with capture_logs() as logs:
        await worker.start()
        await until(lambda: not worker.is_running)
    assert "wired wrongly" in next(line["error"] for line in logs if line["event"] == "outbox_relay_died")
    storage.broken = False
    await worker.start()
    await until(lambda: not repository.waiting)
    await worker.stop()


@pytest.mark.parametrize("error", [ConnectionError("Kafka unavailable"), TimeoutError(), KafkaConnectionError("gone")])
async def test_an_outage_is_noted_at_once_where_single_envelopes_are_published(error: Exception) -> None:
    """The event at which it begins gets the error, whatever it is, and goes out when the broker is back."""
    repository, publisher = Repository(Event(), Event(event_key="other")), Publisher()
    publisher.error = error
    async with make_relay(repository, publisher, QUICK):
        await until(lambda: repository.retries)
        publisher.error = None
        await until(lambda: not repository.waiting)
    assert len(repository.retries) == 1
    assert type(error).__name__ in repository.retries[0][1]


async def test_doubles_that_never_suspend_do_not_hold_the_loop() -> None:
    """With a repository and a publisher of mocks others still get to run, and stop ends."""
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    repository.get_unpublished_events.return_value = [Event()]
    worker = EventRelayWorker(repository, AsyncMock(spec=KafkaPublisherProtocol), QUICK, "svc")
    async with asyncio.timeout(20):
        await worker.start()
        await until(lambda: repository.mark_event_published.call_count > 3)
        await worker.stop()


class Unreachable(BatchingPublisher):
    """Some topics cannot be reached."""

    def __init__(self, *topics: str) -> None:
        super().__init__()
        self.away = set(topics)

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        self.batches.append(list(messages))
        return [
            DeliveryOutcome(error=TimeoutError("no leader"), transient=True)
            if message.topic in self.away
            else DeliveryOutcome()
            for message in messages
        ]


async def test_a_topic_out_of_reach_does_not_stop_the_others() -> None:
    """A whole batch of its events in front: the other topic's go out, nothing is counted, and later all arrive."""
    dead = [Event(topic="away", event_key=f"d{n}") for n in range(20)]
    good = [Event(topic="here", event_key=f"g{n}") for n in range(50)]
    repository, publisher = Repository(*dead, *good), Unreachable("away")
    settings = OutboxSettings(batch_size=10, poll_interval_seconds=0.02, error_retry_interval_seconds=0.05)
    async with make_relay(repository, publisher, settings):
        await until(lambda: len(repository.waiting) == len(dead))
        publisher.away.clear()
        await until(lambda: not repository.waiting)
    assert repository.retries == []


async def test_a_partition_out_of_reach_holds_its_keys_only() -> None:
    """Where other events of the topic arrive, only the keys that did not wait, uncounted; the log says why."""

    class Half(Unreachable):
        async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
            return [
                DeliveryOutcome(error=TimeoutError(), transient=True) if message.key == b"bad" else DeliveryOutcome()
                for message in messages
            ]

    events = [Event(event_key=key) for key in ("bad", "good", "bad", "good")]
    repository = Repository(*events)
    labels = {"service": "svc", "error_type": "partition_outage"}
    counted = REGISTRY.get_sample_value("outbox_relay_errors_total", labels) or 0.0
    with capture_logs() as logs:
        async with make_relay(repository, Half()):
            await until(lambda: len(repository.waiting) == 2)
    told = [line for line in logs if line["event"] == "outbox_partition_outage"]
    assert {(line["topic"], line["keys"], line["error_type"]) for line in told} == {("test.topic", 1, "TimeoutError")}
    assert REGISTRY.get_sample_value("outbox_relay_errors_total", labels) == counted + len(told)
    async with make_relay(repository, Half()):
        late = Event(event_key="good")
        repository.rows[late.id] = late
        await until(lambda: len(repository.waiting) == 2)
    assert {event.event_key for event in repository.waiting} == {"bad"}
    assert repository.retries == []


async def test_a_relay_that_reaches_nothing_leaves_its_share_to_others() -> None:
    """After some fruitless batches it gives up what it owns, and takes it again when it tries anew."""

    class Watched(RepositoryBatchStore):
        closed = 0

        async def close(self) -> None:
            Watched.closed += 1

    repository, publisher = Repository(*[Event() for _ in range(5)]), Unreachable("test.topic")

    class Owner:
        def batch_store(self) -> Any:
            return Watched(repository)

    async with EventRelayWorker(Owner(), publisher, QUICK, "svc"):  # type: ignore[arg-type]  # a repository with a store of its own
        await until(lambda: Watched.closed > 0)
        publisher.away.clear()
        await until(lambda: not repository.waiting)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_intervals_of_nothing_do_not_make_the_relay_spin(seconds: float) -> None:
    """Without events it looks a hundred times a second at most, while the storage fails two hundred times: that has jitter."""
    settings = OutboxSettings(poll_interval_seconds=seconds, error_retry_interval_seconds=seconds)
    repository = Repository()
    async with make_relay(repository, Publisher(), settings):
        began = monotonic()
        await until(lambda: repository.fetches > 20)
        assert repository.fetches <= 2 + 100 * (monotonic() - began)
        began, before, repository.fetch_errors = monotonic(), repository.fetches, [OSError("away")] * 1000
        await until(lambda: repository.fetches > before + 20)
        assert repository.fetches - before <= 2 + 200 * (monotonic() - began)
