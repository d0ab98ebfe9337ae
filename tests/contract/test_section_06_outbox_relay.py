"""Section 6.5: the relay. What it asks of a repository, a publisher and Redis, and when."""

import asyncio
import copy
import dataclasses
from datetime import datetime
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaError
from structlog.testing import capture_logs

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.outbox import EventRelayWorker, OutboxRepositoryProtocol, OutboxSettings
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol
from tests.contract.relaying import Publisher, Repository, Row, relaying, until
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[6.5-settings]
class outbox.relay:OutboxSettings(poll_interval_seconds=5.0, batch_size=100, max_retries=5, error_retry_interval_seconds=30.0, enable_metrics=True, enable_wake_notifications=True)
[6.5-signatures]
class outbox.relay:EventRelayWorker(outbox_repository, kafka_bus, settings, service_name, redis_client=None, event_mapper=None)
async outbox.relay:EventRelayWorker.start()
async outbox.relay:EventRelayWorker.stop()
"""


@pytest.mark.parametrize("wanted", lines("06 outbox relay", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _worker(**given: Any) -> EventRelayWorker:
    return EventRelayWorker(
        outbox_repository=AsyncMock(spec=OutboxRepositoryProtocol),
        kafka_bus=AsyncMock(spec=KafkaPublisherProtocol),
        settings=given.pop("settings", OutboxSettings()),
        service_name="svc",
        **given,
    )


# What it is made of


@pytest.mark.contract("6.5-settings")
def test_settings_can_be_assigned() -> None:
    """A mutable dataclass: tests assign to a field after construction."""
    settings = OutboxSettings()
    assert dataclasses.is_dataclass(settings)
    settings.poll_interval_seconds, settings.batch_size = 0.2, 3
    assert (settings.poll_interval_seconds, settings.batch_size) == (0.2, 3)


@pytest.mark.contract("6.5-attributes")
def test_attributes_of_the_relay() -> None:
    """The list of wake-ups has the service's name; without metrics there are none."""
    redis, mapper = AsyncMock(spec=AtomicRedisClientProtocol), object()
    worker = _worker(settings=OutboxSettings(enable_metrics=False), redis_client=redis, event_mapper=mapper)
    assert (worker.wake_key, worker.metrics, worker._running, worker._task) == ("outbox:wake:svc", None, False, None)
    assert (worker.service_name, worker.redis_client, worker.event_mapper) == ("svc", redis, mapper)
    assert isinstance(_worker().metrics, OutboxMetrics)
    assert worker.settings.enable_metrics is False


@pytest.mark.contract("6.5-start", "6.5-stop", "6.5-attributes")
async def test_start_and_stop() -> None:
    """Starting returns while the relay runs in a task; a second start warns; stopping ends the task."""
    worker = _worker()
    worker.outbox_repository.get_unpublished_events.return_value = []  # type: ignore[attr-defined]
    await worker.stop()
    async with asyncio.timeout(20):
        await worker.start()
        task = worker._task
        assert worker._running is True
        assert task is not None
        with capture_logs() as logs:
            await worker.start()
        assert worker._task is task
        assert "warning" in {entry["log_level"] for entry in logs}
        await worker.stop()
        await worker.stop()
    assert task.done()
    assert not worker._running


@pytest.mark.contract("6.5-start")
async def test_start_inside_of_a_task() -> None:
    """Services wrap it in a task of their own; that one ends at once."""
    worker = _worker()
    worker.outbox_repository.get_unpublished_events.return_value = []  # type: ignore[attr-defined]
    await asyncio.wait_for(asyncio.create_task(worker.start()), 20)
    assert worker._running is True
    await worker.stop()


@pytest.mark.contract("6.5-started-twice")
async def test_an_instance_that_was_started_twice() -> None:
    """Each event is published once."""
    repository, publisher = Repository(*(Row(n) for n in range(20))), Publisher()
    async with relaying(repository, publisher, batch_size=3) as worker:
        await worker.start()
        await until(lambda: all(row.published_at for row in repository.rows))
    assert sorted(sent["key"] for sent in publisher.sent) == sorted(f"k-{n}" for n in range(20))


# The loop


@pytest.mark.contract("6.5-first-look", "6.5-marks", "6.5-publish-keywords", "6.2-six-methods")
async def test_an_event_leaves_at_once() -> None:
    """Published by keywords and marked by position, without waiting for the poll interval."""
    row, publisher = Row(), Publisher()
    repository = Repository(row)
    async with relaying(repository, publisher):
        await until(lambda: row.published_at)
    ((args, keywords),) = publisher.calls
    assert args == ()
    assert set(keywords) == {"topic", "envelope", "key", "headers"}
    assert (keywords["topic"], keywords["key"]) == ("t", "k-0")
    assert isinstance(keywords["envelope"], EventEnvelope)
    assert repository.calls == [("mark_event_published", (row.id,), {})]


@pytest.mark.contract("6.5-failure")
@pytest.mark.parametrize("error", [RuntimeError("broker says no"), KafkaError("broker says no")], ids=repr)
async def test_a_publication_that_fails(error: Exception) -> None:
    """Counted at once, by keywords, with the exception's own text; not marked as published."""
    row, publisher = Row(), Publisher(error)
    repository = Repository(row)
    async with relaying(repository, publisher):
        await until(lambda: repository.calls)
    method, args, keywords = repository.calls[0]
    assert (method, args, set(keywords)) == ("increment_retry_count", (), {"event_id", "error"})
    assert keywords["event_id"] == row.id
    assert "broker says no" in keywords["error"]
    assert row.published_at is None


@pytest.mark.contract("6.5-exhausted")
async def test_an_event_that_has_used_up_its_attempts() -> None:
    """Reported by keywords, with why, and not published; the events beside it are."""
    spent, fresh, publisher = Row(0, retry_count=5), Row(1), Publisher()
    repository = Repository(spent, fresh)
    async with relaying(repository, publisher, max_retries=5):
        await until(lambda: fresh.published_at and repository.called("mark_event_failed"))
    ((args, keywords),) = repository.called("mark_event_failed")
    assert (args, set(keywords), keywords["event_id"]) == ((), {"event_id", "error"}, spent.id)
    assert "Exceeded max retries" in keywords["error"]
    assert [sent["key"] for sent in publisher.sent] == ["k-1"]


@pytest.mark.contract("6.5-storage-trouble")
async def test_trouble_with_the_storage_is_survived() -> None:
    """The next look comes after the interval for errors, not after that for polling."""
    repository, publisher = Repository(Row()), Publisher()
    repository.failing = [ConnectionError("database is away"), RuntimeError("odd")]
    async with relaying(repository, publisher, error_retry_interval_seconds=0.05):
        await until(lambda: publisher.calls)
    assert len(repository.looks) >= 3


@pytest.mark.contract("6.5-batches", "6.5-order")
async def test_batches_follow_each_other() -> None:
    """Fifteen events in batches of five, oldest first, without a pause in between."""
    repository, publisher = Repository(*(Row(n) for n in range(15))), Publisher()
    async with relaying(repository, publisher, batch_size=5):
        await until(lambda: all(row.published_at for row in repository.rows))
    assert [sent["envelope"].data["n"] for sent in publisher.sent] == list(range(15))


@pytest.mark.contract("6.5-order")
async def test_one_after_the_other() -> None:
    """Of one key the next is handed over when the one before has been acknowledged."""
    rows = [Row(n, event_key="same") for n in range(5)]
    running, most = 0, 0

    class _Slow(Publisher):
        async def publish(self, *args: Any, **kwargs: Any) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1
            self.calls.append((args, kwargs))

    publisher = _Slow()
    async with relaying(Repository(*rows), publisher):
        await until(lambda: all(row.published_at for row in rows))
    assert ([sent["envelope"].data["n"] for sent in publisher.sent], most) == (list(range(5)), 1)


# The envelope


async def _sent(row: Row) -> dict[str, Any]:
    publisher = Publisher()
    async with relaying(Repository(row), publisher):
        await until(lambda: publisher.calls)
    return publisher.sent[0]


@pytest.mark.contract("6.5-envelope", "6.5-publish-keywords")
async def test_a_complete_payload_is_the_same_event() -> None:
    """Ids, time, source, data and metadata are those that were stored; type and topic are the row's."""
    stored: EventEnvelope[Any] = EventEnvelope(
        event_type="of the payload", source_service="other", data={"text": "å"}, metadata={"m": 1}
    )
    payload = stored.model_dump(mode="json") | {"topic": "of the payload"}
    sent = await _sent(Row(event_data=payload, event_type="of.the.row", topic="of-the-row"))
    envelope = sent["envelope"]
    assert (sent["topic"], envelope.event_type) == ("of-the-row", "of.the.row")
    assert (envelope.event_id, envelope.correlation_id, envelope.event_timestamp) == (
        stored.event_id,
        stored.correlation_id,
        stored.event_timestamp,
    )
    assert (envelope.source_service, envelope.data) == ("other", {"text": "å"})
    assert envelope.metadata.items() >= {"m": 1}.items()


@pytest.mark.contract("6.5-envelope")
async def test_a_bare_payload_gets_stand_ins() -> None:
    """Only data was stored: the source is the relay's service, the correlation id the row's id, metadata a dict."""
    row = Row(event_data={"data": {"x": 1}})
    envelope = (await _sent(row))["envelope"]
    assert (envelope.source_service, envelope.correlation_id, envelope.data) == ("svc", row.id, {"x": 1})
    assert isinstance(envelope.event_id, UUID)
    assert isinstance(envelope.event_timestamp, datetime)
    assert isinstance(envelope.metadata, dict)


@pytest.mark.contract("6.5-envelope")
@pytest.mark.parametrize("data", [{}, [], "", 0, False], ids=repr)
async def test_data_that_is_empty_is_the_data(data: Any) -> None:
    """What was stored as data is sent, be it nothing: only a payload without the key is the data itself."""
    assert (await _sent(Row(event_data={"data": data, "x": 1})))["envelope"].data == data


@pytest.mark.contract("6.5-envelope")
async def test_a_payload_without_data_is_the_data() -> None:
    """The whole payload is what the event says."""
    assert (await _sent(Row(event_data={"x": 1, "y": "å"})))["envelope"].data == {"x": 1, "y": "å"}


@pytest.mark.contract("6.5-headers", "6.4-standard-headers")
async def test_headers_leave_the_payload() -> None:
    """They are sent, the caller's over the standard ones, and not part of the event; the row stays as it was."""
    stored: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="svc", data={"x": 1})
    payload = stored.model_dump(mode="json") | {"topic": "t", "headers": {"mine": "å", "content_type": "mine"}}
    before = copy.deepcopy(payload)
    sent = await _sent(Row(event_data=payload))
    assert payload == before
    assert sent["headers"].items() >= {"mine": "å", "content_type": "mine"}.items()
    assert "headers" not in sent["envelope"].model_dump()


@pytest.mark.contract("6.4-standard-headers")
async def test_standard_headers() -> None:
    """Seven names, all text, that say what the envelope says."""
    stored: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="other", data={}, schema_version=2)
    headers = (await _sent(Row(event_data=stored.model_dump(mode="json") | {"topic": "t"})))["headers"]
    occurred = headers.pop("occurred_at")
    assert datetime.fromisoformat(occurred) == stored.event_timestamp
    assert (
        headers.items()
        >= {
            "event_id": str(stored.event_id),
            "trace_id": str(stored.correlation_id),
            "schema_version": "2",
            "content_type": "application/json",
            "source_service": "other",
            "event_type": "e.v1",
        }.items()
    )


# Wake-ups


class _Redis:
    """A wake list by hand: `blpop` waits for what `lpush` brings."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.waits: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self.pushed: list[tuple[str, ...]] = []
        self.tokens: asyncio.Queue[str] = asyncio.Queue()

    async def blpop(self, *args: Any, **kwargs: Any) -> tuple[str, str] | None:
        self.waits.append((args, kwargs))
        if self.error is not None:
            raise self.error
        try:
            return "outbox:wake:svc", await asyncio.wait_for(self.tokens.get(), kwargs["timeout"])
        except TimeoutError:
            return None

    async def lpush(self, key: str, *values: str) -> int:
        self.pushed.append((key, *values))
        for value in values:
            self.tokens.put_nowait(value)
        return len(values)

    async def delete_key(self, key: str) -> int:
        return 0


async def _a_look_follows(repository: Repository, redis: _Redis, token: str) -> None:
    looks = len(repository.looks)
    await redis.lpush("outbox:wake:svc", token)
    await until(lambda: len(repository.looks) > looks)


@pytest.mark.contract("6.5-wake-up", "6.5-stop-token")
@pytest.mark.parametrize("token", ["wake", "1"])
async def test_a_token_wakes_the_relay(token: str) -> None:
    """It waits on the list by keywords; whatever comes means: look again now. Stopping pushes its own token."""
    repository, publisher, redis = Repository(), Publisher(), _Redis()
    async with relaying(repository, publisher, redis):
        await until(lambda: repository.looks)
        async with asyncio.timeout(40):  # polling alone would have made one look of its own by now, or a few
            for _ in range(30):
                await _a_look_follows(repository, redis, token)
        repository.rows.append(Row())
        await redis.lpush("outbox:wake:svc", token)
        await until(lambda: publisher.calls)
    args, keywords = redis.waits[0]
    assert (args, set(keywords), keywords["keys"]) == ((), {"keys", "timeout"}, ["outbox:wake:svc"])
    assert keywords["timeout"] > 0
    assert ("outbox:wake:svc", "stop") in redis.pushed


@pytest.mark.contract("6.5-wake-failure")
@pytest.mark.parametrize(
    ("redis", "settings"),
    [
        (lambda: _Redis(ConnectionError("away")), {}),
        (lambda: None, {}),
        (_Redis, {"enable_wake_notifications": False}),
    ],
    ids=["away", "none", "switched off"],
)
async def test_without_wake_ups_the_relay_polls(redis: Any, settings: dict[str, Any]) -> None:
    """Redis is away, absent or not wanted: events are found all the same, by polling."""
    repository, publisher, double = Repository(), Publisher(), redis()
    async with relaying(repository, publisher, double, poll_interval_seconds=0.05, **settings):
        await until(lambda: len(repository.looks) >= 2)
        repository.rows.append(Row())
        await until(lambda: publisher.calls)
    if settings:
        assert double.waits == []


@pytest.mark.contract("6.5-stop")
async def test_stopping_with_a_publisher_that_hangs() -> None:
    """It ends within a bound, and no attempt is marked as published."""

    class _Hanging(Publisher):
        async def publish(self, *args: Any, **kwargs: Any) -> None:
            self.calls.append((args, kwargs))
            await asyncio.Event().wait()

    row, publisher = Row(id=uuid4()), _Hanging()
    repository = Repository(row)
    async with asyncio.timeout(60):
        async with relaying(repository, publisher) as worker:
            await until(lambda: publisher.calls)
    assert not worker._running
    assert row.published_at is None
