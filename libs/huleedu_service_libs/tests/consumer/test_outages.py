"""Databases that stop while events are handled: everything waits, nothing is dead-lettered."""

import asyncio
from collections.abc import Iterator

import aiohttp
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.kafka.consumer import Delivery, RetryPolicy
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.stack import DevStack
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from ..waiting import until
from .conftest import EVENT_TYPE, MakeConsumer, Numbered, ReadTopic, Send, numbered

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

HASTY = RetryPolicy(attempts=2, first_delay_s=0.01, longest_delay_s=0.1)
EVENTS = 60
BEFORE = 10


@pytest.fixture(name="servers")
def _servers() -> Iterator[DevStack]:
    """A PostgreSQL and a Redis that the test may stop."""
    with DevStack(("postgres", "redis")) as stack:
        yield stack


async def test_a_stopped_postgresql_dead_letters_nothing(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, read_topic: ReadTopic, servers: DevStack
) -> None:
    """PostgreSQL stops under load and comes back: each event is handled, none is set aside, with default settings."""
    topic = kafka_topic("numbers", partitions=2)
    engine = create_async_engine(servers.postgres.create_database().replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE seen (number int)"))
    handled: set[int] = set()
    refused = 0
    consumer = make_consumer(topic, retry=HASTY)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        nonlocal refused
        try:
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO seen VALUES (:n)"), {"n": delivery.data.number})
        except Exception:
            refused += 1
            raise
        handled.add(delivery.data.number)

    await consumer.start()
    await send(*[numbered(topic, n, f"key-{n % 7}") for n in range(BEFORE)])
    await until(lambda: len(handled) == BEFORE)
    await asyncio.to_thread(servers.postgres.stop)
    await send(*[numbered(topic, n, f"key-{n % 7}") for n in range(BEFORE, EVENTS)])
    await until(lambda: refused >= 10 * HASTY.attempts)
    await asyncio.to_thread(servers.postgres.start)
    await until(lambda: len(handled) == EVENTS, limit_s=90)
    await consumer.stop()
    assert await read_topic(consumer.config.dead_letter_topic_of(topic)) == []
    async with engine.connect() as connection:
        stored = {number for (number,) in await connection.execute(text("SELECT number FROM seen"))}
    await engine.dispose()
    assert stored == set(range(EVENTS))


async def test_a_stopped_redis_and_an_unreachable_server_dead_letter_nothing(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, read_topic: ReadTopic, servers: DevStack
) -> None:
    """Handlers that need Redis and an HTTP server, neither of which is there, go on when both are."""
    topic = kafka_topic("numbers")
    redis = RedisClient(client_id="handler", redis_url=servers.redis.address)
    await redis.start()
    handled: set[int] = set()
    refused: set[str] = set()
    content_is_up = False
    consumer = make_consumer(topic, retry=HASTY)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        try:
            await redis.setex(f"n:{delivery.data.number}", 60, "x")
            if not content_is_up:
                async with aiohttp.ClientSession() as http:
                    await http.get("http://127.0.0.1:9/content")
        except Exception as error:
            refused.add(type(error).__module__.partition(".")[0])
            raise
        handled.add(delivery.data.number)

    await asyncio.to_thread(servers.redis.stop)
    await send(*[numbered(topic, n, f"key-{n}") for n in range(BEFORE)])
    await consumer.start()
    await until(lambda: "redis" in refused)
    await asyncio.to_thread(servers.redis.start)
    await until(lambda: "aiohttp" in refused, limit_s=60)
    content_is_up = True
    await until(lambda: len(handled) == BEFORE, limit_s=60)
    await consumer.stop()
    await redis.stop()
    assert await read_topic(consumer.config.dead_letter_topic_of(topic)) == []
