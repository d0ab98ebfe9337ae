"""From a committed transaction to Kafka: order, stops, several relays, statements, latency."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from common_core import EventEnvelope
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.models import EventOutbox
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.redis_client import RedisClient

from ..databases import statements_of
from ..topics import read_all

pytestmark = pytest.mark.integration

INSERT = text(
    "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at)"
    " SELECT gen_random_uuid(), 'a', 'essay', 'order.v1',"
    " json_build_object('event_id', gen_random_uuid(), 'source_service', 'svc', 'data', json_build_object('n', n)),"
    " 'key-' || (n % :keys), :topic, clock_timestamp() FROM generate_series(0, :events - 1) n"
)


async def _fill(engine: AsyncEngine, topic: str, events: int, keys: int) -> None:
    async with engine.begin() as connection:
        await connection.execute(INSERT, {"topic": topic, "events": events, "keys": keys})


async def _waiting(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        statement = select(func.count()).select_from(EventOutbox).where(EventOutbox.published_at.is_(None))
        return int(await connection.scalar(statement) or 0)


async def _drained(engine: AsyncEngine, seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while await _waiting(engine):
            await asyncio.sleep(0.05)


def _worker(engine: AsyncEngine, bus: KafkaBus, redis: RedisClient | None = None, **settings: Any) -> EventRelayWorker:
    return EventRelayWorker(
        outbox_repository=PostgreSQLOutboxRepository(engine, "svc"),
        kafka_bus=bus,
        settings=OutboxSettings(**({"batch_size": 500, "poll_interval_seconds": 0.2} | settings)),
        service_name="svc",
        redis_client=redis,
    )


def _numbers_by_key(records: list[ConsumerRecord]) -> dict[bytes, list[int]]:
    numbers: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        numbers[record.key].append(json.loads(record.value)["data"]["n"])
    return numbers


def _first_seen(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


async def test_ten_thousand_events_over_fifty_keys_arrive_in_order(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Read back from Kafka, each key's events stand in the order of the rows, none is missing, none is double."""
    topic = kafka_topic("order", partitions=6)
    await _fill(engine, topic, 10_000, 50)
    worker = _worker(engine, bus)
    await worker.start()
    await _drained(engine)
    await worker.stop()
    by_key = _numbers_by_key(await read_all(kafka_bootstrap_servers, topic))
    assert len(by_key) == 50
    for key, numbers in by_key.items():
        assert numbers == list(range(int(key.removeprefix(b"key-")), 10_000, 50))


async def test_a_relay_stopped_in_the_middle_loses_and_repeats_nothing(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Graceful stops finish the batch in flight: every event arrives once, in order, whoever sends it."""
    topic = kafka_topic("stops", partitions=3)
    await _fill(engine, topic, 3_000, 20)
    for _ in range(50):
        worker = _worker(engine, bus, batch_size=100)
        await worker.start()
        await asyncio.sleep(0.02)
        await worker.stop()
        if not await _waiting(engine):
            break
    last = _worker(engine, bus)
    await last.start()
    await _drained(engine)
    await last.stop()
    by_key = _numbers_by_key(await read_all(kafka_bootstrap_servers, topic))
    assert len(by_key) == 20
    for key, numbers in by_key.items():
        assert numbers == list(range(int(key.removeprefix(b"key-")), 3_000, 20))


async def test_two_relays_share_the_work(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Two relays on two buses, one joining while the other works: nothing doubled, nothing out of order."""
    topic = kafka_topic("two", partitions=3)
    other_bus = KafkaBus(client_id="other", bootstrap_servers=kafka_bootstrap_servers)
    await other_bus.start()
    first, second = _worker(engine, bus, batch_size=50), _worker(engine, other_bus, batch_size=50)
    shares = [_count_messages(bus), _count_messages(other_bus)]
    await first.start()
    filling = asyncio.create_task(_fill_in_parts(engine, topic))
    await asyncio.sleep(0.2)
    await second.start()
    await filling
    await _drained(engine)
    await first.stop()
    await second.stop()
    await other_bus.stop()
    records = await read_all(kafka_bootstrap_servers, topic)
    for key, numbers in _numbers_by_key(records).items():
        assert numbers == sorted(set(numbers)), key
    assert len(records) == 40 * 100
    assert all(shares)
    assert sum(map(sum, shares)) == 40 * 100


def _count_messages(bus: KafkaBus) -> list[int]:
    """Sizes of the batches that go through ``bus`` from now on."""
    sizes: list[int] = []
    publish_batch = bus.publish_batch

    async def counted(messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        sizes.append(len(messages))
        return await publish_batch(messages)

    bus.publish_batch = counted  # type: ignore[method-assign]
    return sizes


async def _fill_in_parts(engine: AsyncEngine, topic: str) -> None:
    statement = text(INSERT.text.replace("generate_series(0, :events - 1)", "generate_series(:start, :start + 99)"))
    for part in range(40):
        async with engine.begin() as connection:
            await connection.execute(statement, {"topic": topic, "start": part * 100, "keys": 50})
        await asyncio.sleep(0.05)


async def test_a_relay_whose_session_is_killed_goes_on_and_keeps_the_order(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """The server ends the relay's session under load: nothing is lost, first arrivals stay in order."""
    topic = kafka_topic("killed", partitions=3)
    await _fill(engine, topic, 3_000, 20)
    worker = _worker(engine, bus, batch_size=100, error_retry_interval_seconds=0.2)
    await worker.start()
    killed = 0
    for _ in range(5):
        await asyncio.sleep(0.05)
        async with engine.connect() as connection:
            done = await connection.scalars(
                text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0")
            )
            killed += sum(done)
    assert killed > 0
    await _drained(engine)
    await worker.stop()
    by_key = _numbers_by_key(await read_all(kafka_bootstrap_servers, topic))
    assert len(by_key) == 20
    for key, numbers in by_key.items():
        assert _first_seen(numbers) == list(range(int(key.removeprefix(b"key-")), 3_000, 20))


async def test_a_batch_costs_two_statements(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str]
) -> None:
    """One SELECT and one UPDATE a batch, whatever its size; the look beside the last delivery finds nothing."""
    await _fill(engine, kafka_topic("statements"), 2_000, 50)
    relay_engine = create_async_engine(engine.url)
    with statements_of(relay_engine) as seen:
        worker = _worker(relay_engine, bus, batch_size=500)
        await worker.start()
        await _drained(engine)
        await worker.stop()
    await relay_engine.dispose()
    updates = [one for one in seen if "published_at = now()" in one]
    last = max(place for place, statement in enumerate(seen) if statement in updates)
    looks = [one for one in seen[: last + 1] if "event_data" in one]
    assert (len(looks), len(updates)) == (5, 4)


async def test_an_event_costs_a_twentieth_of_a_statement_and_one_dead_tuple(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str]
) -> None:
    """All that a relay sends to the database from start to stop, by batches of 100; each row is written once more."""
    events = 3_000
    await _fill(engine, kafka_topic("cost"), events, 100)
    relay_engine = create_async_engine(engine.url)
    with statements_of(relay_engine) as seen:
        worker = _worker(relay_engine, bus, batch_size=100)
        await worker.start()
        await _drained(engine)
        await worker.stop()
    await relay_engine.dispose()
    assert len(seen) <= 0.05 * events
    written = "SELECT n_tup_upd, n_tup_del, n_dead_tup FROM pg_stat_user_tables WHERE relname = 'event_outbox'"
    async with engine.connect() as connection, asyncio.timeout(30):
        while True:  # the server counts with a delay
            await connection.rollback()  # or the next look would show the same
            updated, deleted, dead = tuple((await connection.execute(text(written))).one())
            if updated >= events:
                break
            await asyncio.sleep(0.1)
    assert updated + deleted == events
    assert dead <= events


async def _publish(manager: OutboxManager, topic: str, number: int, session: AsyncSession) -> None:
    await manager.publish_to_outbox(
        aggregate_type="essay",
        aggregate_id=f"essay-{number % 5}",
        event_type="path.v1",
        event_data=EventEnvelope(
            event_type="path.v1", source_service="svc", data={"n": number, "text": "Flygande bäckasiner söka hwila"}
        ),
        topic=topic,
        session=session,
    )


async def test_rolled_back_transactions_publish_nothing(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Of transactions that commit and roll back in turn, only the committed ones are ever seen on Kafka."""
    topic = kafka_topic("rollback")
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "svc"), None, "svc")
    worker = _worker(engine, bus)
    await worker.start()
    for number in range(40):
        async with AsyncSession(engine) as session:
            await _publish(manager, topic, number, session)
            await (session.commit() if number % 2 else session.rollback())
    await _drained(engine)
    await worker.stop()
    records = await read_all(kafka_bootstrap_servers, topic)
    assert sorted(json.loads(record.value)["data"]["n"] for record in records) == list(range(1, 40, 2))
    assert all("bäckasiner" in record.value.decode() for record in records)


async def test_an_event_is_on_kafka_right_after_the_commit(
    engine: AsyncEngine, bus: KafkaBus, redis: RedisClient, kafka_topic: Callable[..., str], unique_name: str
) -> None:
    """An idle relay is woken through Redis by a manager of another process: no poll interval passes."""
    topic = kafka_topic("wake")
    repository = PostgreSQLOutboxRepository(engine, unique_name)
    worker = EventRelayWorker(
        repository, bus, OutboxSettings(poll_interval_seconds=30.0), service_name=unique_name, redis_client=redis
    )
    await worker.start()
    worker._empty_looks = 100  # idle for long
    await asyncio.sleep(0.3)
    worker._empty_looks = 100
    latencies = []
    for number in count():
        # Straight into the table and the list, as another process would: nothing in this process signals.
        async with AsyncSession(engine) as session:
            await _publish(OutboxManager(repository, None, "elsewhere"), topic, number, session)
            session.sync_session.info.clear()
            session.sync_session.info["huleedu_outbox_wake"] = set()
            await session.commit()
        started = monotonic()
        await redis.lpush(worker.wake_key, "wake")
        async with asyncio.timeout(20.0):
            while await _waiting(engine):
                await asyncio.sleep(0.001)
        latencies.append(monotonic() - started)
        worker._empty_looks = 100
        if number >= 10:
            break
    await worker.stop()
    assert max(latencies) < 10.0  # a third of the poll interval


async def test_stable_identity_over_attempts(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """An event that is sent again leaves with the same id, headers and bytes."""
    topic = kafka_topic("again")
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "svc"), None, "svc")
    async with AsyncSession(engine) as session:
        await _publish(manager, topic, 1, session)
        await session.commit()
    for _ in range(2):
        worker = _worker(engine, bus)
        await worker.start()
        await _drained(engine)
        await worker.stop()
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE event_outbox SET published_at = NULL"))
    first, second = await read_all(kafka_bootstrap_servers, topic)
    assert (first.key, first.value, first.headers) == (second.key, second.value, second.headers)
    headers = dict(first.headers)
    assert headers["event_id"].decode() == json.loads(first.value)["event_id"]
    assert headers["trace_id"].decode() == json.loads(first.value)["correlation_id"]
    assert {"event_type", "source_service", "schema_version", "occurred_at", "content_type"} <= set(headers)


async def test_poison_is_parked_and_the_rest_goes_on(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """A row too large for Kafka is parked with its cause; its key's next event and all others arrive."""
    topic = kafka_topic("poison")
    await _fill(engine, topic, 100, 10)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "UPDATE event_outbox SET event_data = json_build_object('data', json_build_object('n', 13, 'big',"
                " repeat('x', 2000000))) WHERE event_data -> 'data' ->> 'n' = '13'"
            )
        )
    worker = _worker(engine, bus, max_retries=2, error_retry_interval_seconds=0.1)
    await worker.start()
    async with asyncio.timeout(30):
        while await _waiting(engine) > 1:
            await asyncio.sleep(0.05)
    await worker.stop()
    by_key = _numbers_by_key(await read_all(kafka_bootstrap_servers, topic))
    assert by_key[b"key-3"] == [3, 23, 33, 43, 53, 63, 73, 83, 93]
    assert sum(map(len, by_key.values())) == 99
    async with engine.connect() as connection:
        parked = (await connection.execute(select(EventOutbox).where(EventOutbox.published_at.is_(None)))).one()
    assert parked.retry_count == 2
    assert "Exceeded max retries (2)" in parked.last_error
    assert "2000" in parked.last_error  # the size stands in the cause
