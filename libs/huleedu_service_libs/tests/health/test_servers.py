"""What is told of real servers that go and come back."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.health import (
    ComponentState,
    Damping,
    Level,
    Probe,
    ServiceHealth,
    consumer_probe,
    database_probe,
    dedupe_store_probe,
    kafka_probe,
    outbox_probe,
    redis_probe,
)
from huleedu_service_libs.idempotency_v2.store_watch import StoreWatch
from huleedu_service_libs.kafka.consumer import ConsumerConfig, EventConsumer
from huleedu_service_libs.outbox import EventOutbox
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack.server import Server
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

pytestmark = pytest.mark.integration

LIMIT_S = 60.0


def quick(probe: Probe) -> Probe:
    """The same, looked at more often."""
    return dataclasses.replace(probe, interval_s=0.1)


async def reaches(health: ServiceHealth, name: str, level: Level) -> ComponentState:
    """Wait until the component is told so."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            state = next(each for each in health.states() if each.name == name)
            if state.level is level:
                return state
            await asyncio.sleep(0.02)


@asynccontextmanager
async def away(server: Server) -> AsyncIterator[None]:
    """The server is stopped inside, and runs again afterwards."""
    await asyncio.to_thread(server.stop)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database, pool_size=1, max_overflow=0)
    async with engine.begin() as connection:
        await connection.run_sync(EventOutbox.metadata.create_all)
    yield engine
    await engine.dispose()


async def test_a_database_that_goes_and_comes(
    engine: AsyncEngine, postgres_server: PostgresServer, unique_name: str
) -> None:
    """A stopped PostgreSQL degrades the service with the driver's cause; restarted, it is well again, without help."""
    health = ServiceHealth(unique_name)
    health.watch(quick(database_probe(DatabaseHealthChecker(engine, unique_name))))
    health.watch(quick(outbox_probe(engine, unique_name)))
    async with health:
        assert health.ready().level is Level.PASS
        async with away(postgres_server):
            down = await reaches(health, "database", Level.FAIL)
            await reaches(health, "outbox", Level.FAIL)
            assert health.ready().level is Level.WARN
            assert health.live().level is Level.PASS
        await reaches(health, "database", Level.PASS)
        await reaches(health, "outbox", Level.PASS)
        assert health.ready().level is Level.PASS

    assert (down.cause or "").startswith("the database does not answer: ")
    assert "None" not in (down.cause or "")


async def test_a_busy_pool_is_no_dead_database(engine: AsyncEngine, unique_name: str) -> None:
    """With the only connection of the pool in use for long, both looks still get their answers."""
    health = ServiceHealth(unique_name)
    health.watch(quick(database_probe(DatabaseHealthChecker(engine, unique_name))))
    health.watch(quick(outbox_probe(engine, unique_name)))
    async with engine.connect() as held, health:
        await held.execute(text("SELECT 1"))
        told = await reaches(health, "database", Level.WARN)
        assert "the pool is exhausted: 1 of 1" in (told.cause or "")
        assert (await reaches(health, "outbox", Level.PASS)).details["waiting"] == 0
        assert health.ready().level is Level.WARN


async def test_events_that_nobody_takes(engine: AsyncEngine, unique_name: str) -> None:
    """Waiting events without any relay are a failure of the outbox, told with what to do, and no reason to restart."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, retry_count)"
                " VALUES (gen_random_uuid(), 'a', 'essay', 't.v1', '{}', 'essays', 0)"
            )
        )
    health = ServiceHealth(unique_name)
    health.watch(outbox_probe(engine, unique_name))
    async with health:
        state = await reaches(health, "outbox", Level.FAIL)
        assert health.ready().level is Level.WARN
        assert health.live().level is Level.PASS

    assert "no relay is alive: start EventRelayWorker" in (state.cause or "")
    assert state.details["waiting"] == 1


async def test_a_redis_that_goes_and_comes(redis_server: RedisServer, unique_name: str) -> None:
    """A stopped Redis degrades the service, as Redis and as the memory of processed events; it recovers by itself."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(RedisClient(client_id="health-test", redis_url=redis_server.address))
        watch = await stack.enter_async_context(StoreWatch(client, service_name=unique_name, interval_s=0.1))
        health = ServiceHealth(unique_name)
        health.watch(quick(redis_probe(client)), quick(dedupe_store_probe(watch)))
        await stack.enter_async_context(health)
        assert health.ready().level is Level.PASS
        async with away(redis_server):
            down = await reaches(health, "redis", Level.FAIL)
            forgotten = await reaches(health, "dedupe_store", Level.WARN)
            assert health.ready().level is Level.WARN
        await reaches(health, "redis", Level.PASS)
        await reaches(health, "dedupe_store", Level.PASS)

    assert (down.cause or "").startswith("Redis does not answer: ConnectionError: ")
    assert "Redis does not answer" in (forgotten.cause or "")


async def test_a_network_that_swallows_everything(redis_server: RedisServer, unique_name: str) -> None:
    """A server that takes connections and answers nothing is told as no answer within the limit."""
    async with FaultProxy(redis_server.address) as proxy:
        health = ServiceHealth(unique_name)
        health.watch(quick(redis_probe(proxy.url)))
        async with health:
            assert health.ready().level is Level.PASS
            proxy.silence()
            down = await reaches(health, "redis", Level.FAIL)
            proxy.heal()
            await reaches(health, "redis", Level.PASS)

    assert "imeout" in (down.cause or "") or "no answer within 3 s" in (down.cause or "")


class Nothing(BaseModel):
    """An event without content."""


async def test_a_kafka_that_goes_and_comes(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, unique_name: str
) -> None:
    """A stopped cluster degrades the service; the consumer that waits for it is alive all the while, and recovers."""
    topic = kafka_topic("health")
    consumer = EventConsumer(
        ConsumerConfig(group_id=unique_name, topics=(topic,), session_timeout_s=6.0),
        bootstrap_servers=real_kafka.address,
    )

    @consumer.on("t.v1", model=Nothing)
    async def handle(delivery: object) -> None:
        """Nothing to do."""

    health = ServiceHealth(unique_name)
    health.watch(quick(kafka_probe(real_kafka.address)))
    lives: set[Level] = set()
    async with consumer:
        health.watch(quick(consumer_probe(consumer)))
        async with health:
            cluster = next(each for each in health.states() if each.name == "kafka")
            assert cluster.details["brokers"] == 1
            assert health.ready().level is Level.PASS
            async with away(real_kafka):
                down = await reaches(health, "kafka", Level.FAIL)
                for _ in range(50):
                    lives.add(health.live().level)
                    await asyncio.sleep(0.1)
                assert health.ready().level is Level.WARN
            await reaches(health, "kafka", Level.PASS)
            await reaches(health, "consumer", Level.PASS)
            lives.add(health.live().level)

    assert lives == {Level.PASS}
    assert (down.cause or "").startswith(f"no broker of {real_kafka.address} answers: ")


def test_a_probe_damps_by_default() -> None:
    """Three looks to be told worse, two to be told better."""
    assert kafka_probe("nowhere:1").damping == Damping(falls_after=3, rises_after=2)
