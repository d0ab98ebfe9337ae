"""The outbox on one table with managers and relays of the earlier library: rows of every kind, and both at the same time."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.parked import Selection
from huleedu_service_libs.outbox.redrive import redrive
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.schema import require_schema
from huleedu_service_libs.redis_client import RedisClient

from ..topics import read_all
from .earlier import EarlierRelay, add_row, envelope, read_message, read_row
from .tables import VARIANTS

pytestmark = pytest.mark.integration

GIVEN_UP = "Exceeded max retries"
EVERYTHING_ON = {"strict_order": True, "retention_seconds": 3600.0, "purge_interval_seconds": 0.2}


@pytest.fixture(name="engine", params=VARIANTS)
async def _engine(request: pytest.FixtureRequest, postgres_database: str) -> AsyncIterator[AsyncEngine]:
    """A database whose outbox a service's own migration made."""
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": "UTC"}})
    async with engine.begin() as connection:
        for statement in VARIANTS[request.param].split(";"):
            await connection.execute(text(statement))
    yield engine
    await engine.dispose()


one_table = pytest.mark.parametrize("engine", ["the usual one"], indirect=True)


def relay(
    engine: AsyncEngine, bus: KafkaBus, redis: RedisClient | None = None, service: str = "svc", **more: Any
) -> EventRelayWorker:
    """Our relay."""
    return EventRelayWorker(
        outbox_repository=PostgreSQLOutboxRepository(engine, service),
        kafka_bus=bus,
        settings=OutboxSettings(**{"poll_interval_seconds": 0.1, **more}),
        service_name=service,
        redis_client=redis,
    )


async def until_done(engine: AsyncEngine, max_retries: int = 5, limit_s: float = 60.0) -> None:
    """Wait until nothing waits that has attempts left."""
    waiting = text("SELECT count(*) FROM event_outbox WHERE published_at IS NULL AND retry_count < :most")
    async with asyncio.timeout(limit_s):
        while True:
            async with engine.connect() as connection:
                if not await connection.scalar(waiting, {"most": max_retries}):
                    return
            await asyncio.sleep(0.05)


async def row_of(engine: AsyncEngine, row_id: UUID) -> Any:
    """A row as it is."""
    async with engine.connect() as connection:
        return (await connection.execute(text("SELECT * FROM event_outbox WHERE id = :id"), {"id": row_id})).one()


def ours(topic: str, number: int, **more: Any) -> NewEvent:
    """An event as a service gives it to our manager."""
    event: EventEnvelope[Any] = EventEnvelope(
        event_type="huleedu.test.moved.v1", source_service="svc", data={"n": number, "text": "Räksmörgås"}
    )
    return NewEvent(
        aggregate_type="essay",
        aggregate_id=f"essay-{number % 5}",
        event_type=event.event_type,
        event_data=event,
        topic=topic,
        **more,
    )


async def test_rows_of_ever_are_honoured(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """What waits leaves once with the id that it has, half-tried rows go on, published ones do not leave, given-up ones stay."""
    topic = kafka_topic("rows")
    whole, tried, bare = envelope({"n": 1, "text": "Räksmörgås"}), envelope({"n": 2}), {"data": {"n": 3}}
    with_headers = envelope({"n": 4}) | {"headers": {"tenant": "åre"}}
    async with engine.begin() as connection:
        first = await add_row(connection, topic, whole)
        second = await add_row(connection, topic, tried, retry_count=3, last_error="KafkaTimeoutError")
        third = await add_row(connection, topic, bare, event_key=None, aggregate_id="essay-3")
        fourth = await add_row(connection, topic, with_headers, event_key="essay-4")
        gone = await add_row(connection, topic, envelope({"n": 5}), published=True)
        told = await add_row(connection, topic, envelope({"n": 6}), retry_count=5, last_error=GIVEN_UP)
        untold = await add_row(connection, topic, envelope({"n": 7}), retry_count=9, last_error="RecordTooLarge")
    await require_schema(engine)
    async with relay(engine, bus):
        await until_done(engine)
    records = {read_message(record)["data"]["n"]: record for record in await read_all(kafka_bootstrap_servers, topic)}
    assert sorted(records) == [1, 2, 3, 4]
    assert [records[n].key for n in (1, 2, 3, 4)] == [b"essay-1", b"essay-1", b"essay-3", b"essay-4"]
    kept = {name: value for name, value in whole.items() if name != "metadata"}
    assert kept.items() <= read_message(records[1]).items()
    assert read_message(records[3])["event_id"] == str(third), "a row without an envelope has the row's id"
    assert dict(records[4].headers)["tenant"].decode() == "åre"
    rows = {name: await row_of(engine, name) for name in (first, second, third, fourth, gone, told, untold)}
    assert [rows[name].published_at is None for name in rows] == [False] * 5 + [True] * 2
    assert (rows[second].retry_count, rows[second].last_error) == (3, "KafkaTimeoutError")
    assert rows[told].last_error == GIVEN_UP
    assert rows[untold].last_error == "Exceeded max retries (5): RecordTooLarge"
    result = await redrive(engine, Selection(everything=True), mode="in-place", actor="ada", reason="moved")
    assert set(result.moved) == {told, untold}
    async with relay(engine, bus):
        await until_done(engine)
    assert len(await read_all(kafka_bootstrap_servers, topic)) == 6


async def test_an_earlier_relay_reads_our_rows(
    engine: AsyncEngine, producer: AIOKafkaProducer, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Rows of our manager, one by one and many at once, are to an earlier relay as its own: payload, key, order."""
    topic = kafka_topic("read")
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "svc"), None, "svc")
    one = ours(topic, 0, headers={"tenant": "a"})
    async with async_sessionmaker(engine).begin() as session:
        await manager.publish_to_outbox(
            aggregate_type=one.aggregate_type,
            aggregate_id=one.aggregate_id,
            event_type=one.event_type,
            event_data=one.event_data,
            topic=topic,
            headers=one.headers,
            session=session,
        )
        await manager.publish_many_to_outbox([ours(topic, number) for number in range(1, 5)], session=session)
    earlier = EarlierRelay(engine, producer)
    rows = await earlier.waiting()
    assert [read_row(row)["data"]["n"] for row in rows] == [0, 1, 2, 3, 4]
    assert read_row(rows[0])["event_id"] == str(one.event_data.event_id)
    assert [row.event_key for row in rows] == [row.aggregate_id for row in rows]
    created = [row.created_at if row.created_at.tzinfo else row.created_at.replace(tzinfo=UTC) for row in rows]
    assert all(abs((datetime.now(UTC) - moment).total_seconds()) < 300 for moment in created)
    await earlier.fail_once(rows[0].id, 1)
    assert await earlier.pass_once() == 5
    assert await earlier.waiting() == []
    records = await read_all(kafka_bootstrap_servers, topic)
    assert [read_message(record)["data"]["n"] for record in records] == [0, 1, 2, 3, 4]


@one_table
async def test_one_after_the_other_nothing_is_lost_or_doubled(
    engine: AsyncEngine,
    bus: KafkaBus,
    producer: AIOKafkaProducer,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
) -> None:
    """Where one relay has stopped before the other starts, each event leaves once and in order, there and back again."""
    topic = kafka_topic("turns")
    earlier = EarlierRelay(engine, producer)
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "svc"), None, "svc")
    sessions, numbers = async_sessionmaker(engine), iter(range(1000))

    async def add(count: int) -> None:
        for number in (next(numbers) for _ in range(count)):
            async with sessions.begin() as session:
                if number % 2:
                    await manager.publish_many_to_outbox([ours(topic, number)], session=session)
                else:
                    key = f"essay-{number % 5}"
                    await add_row(await session.connection(), topic, envelope({"n": number}), event_key=key)

    for _ in range(3):
        await add(20)
        await earlier.pass_once(10)  # stopped in the middle
        await add(20)
        async with relay(engine, bus, batch_size=7):
            await add(20)
        await add(5)
    await earlier.pass_once(500)
    by_key = defaultdict(list)
    for record in await read_all(kafka_bootstrap_servers, topic):
        by_key[record.key].append(read_message(record)["data"]["n"])
    assert sorted(number for each in by_key.values() for number in each) == list(range(195))
    assert all(each == sorted(each) for each in by_key.values())


@one_table
async def test_both_relays_at_the_same_time_lose_nothing(
    engine: AsyncEngine,
    bus: KafkaBus,
    producer: AIOKafkaProducer,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
) -> None:
    """No promise beyond: the earlier relay locks nothing, so an event may leave twice, and its copy has another id."""
    topic = kafka_topic("both")
    earlier = EarlierRelay(engine, producer)
    async with engine.begin() as connection:
        for number in range(300):
            await add_row(connection, topic, envelope({"n": number}), event_key=f"essay-{number % 5}")

    async def keep_going() -> None:
        while await earlier.pass_once(20):
            pass

    async with relay(engine, bus, batch_size=20):
        await asyncio.gather(keep_going(), until_done(engine))
    seen = Counter(read_message(record)["data"]["n"] for record in await read_all(kafka_bootstrap_servers, topic))
    assert set(seen) == set(range(300))
    assert max(seen.values()) <= 2


@one_table
async def test_no_promise_for_what_an_earlier_relay_died_over(
    engine: AsyncEngine,
    bus: KafkaBus,
    producer: AIOKafkaProducer,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
) -> None:
    """An event that it had sent and not marked leaves again; consumers cannot know the two for one: it made up an id."""
    topic = kafka_topic("died")
    stored = envelope({"n": 1})
    async with engine.begin() as connection:
        await add_row(connection, topic, stored)
    await EarlierRelay(engine, producer).pass_once(dies_before_marking=True)
    async with relay(engine, bus):
        await until_done(engine)
    first, second = [read_message(record)["event_id"] for record in await read_all(kafka_bootstrap_servers, topic)]
    assert second == stored["event_id"]
    assert first != second


async def test_roll_back_after_everything_was_switched_on(
    engine: AsyncEngine,
    bus: KafkaBus,
    producer: AIOKafkaProducer,
    client: RedisClient,
    driver: Redis,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
    unique_name: str,
) -> None:
    """Strict order, retention, wake-ups, headers, many at once: what we leave behind, an earlier relay carries on."""
    topic, held_up = kafka_topic("back"), kafka_topic("held")
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, unique_name), client, unique_name)
    sessions = async_sessionmaker(engine)

    async def add(*events: NewEvent) -> None:
        session: AsyncSession
        async with sessions.begin() as session:
            await manager.publish_many_to_outbox(events, session=session)

    async with relay(engine, bus, client, service=unique_name, **EVERYTHING_ON):
        await add(*(ours(topic, number, headers={"tenant": "a"}) for number in range(10)))
        await until_done(engine)
    await add(*(ours(topic, number, headers={"tenant": "a"}) for number in range(10, 20)))
    async with engine.begin() as connection:
        parked = await add_row(
            connection, held_up, envelope({"n": 99}), retry_count=5, last_error="Exceeded max retries (5): too large"
        )
    woken = await driver.blpop([f"outbox:wake:{unique_name}"], timeout=20)
    assert woken is not None, "the earlier relay waits on that list, and takes any item for a wake-up"
    earlier = EarlierRelay(engine, producer)
    assert await earlier.pass_once() == 11
    assert [row.id for row in await earlier.waiting()] == [parked], "it sees given-up rows at each look"
    seen = [read_message(record)["data"]["n"] for record in await read_all(kafka_bootstrap_servers, topic)]
    assert seen == list(range(20))
    assert await read_all(kafka_bootstrap_servers, held_up) == []
