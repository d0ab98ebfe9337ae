"""Everything real: a database with the outbox table, Kafka, Redis."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.redis_client import RedisClient

from ..databases import engine_with


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    async with engine_with(Base.metadata, postgres_database) as engine:
        yield engine


@pytest.fixture(name="bus")
async def _bus(real_kafka: object, kafka_bootstrap_servers: str) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(client_id="path", bootstrap_servers=kafka_bootstrap_servers)
    await bus.start()
    yield bus
    await bus.stop()


@pytest.fixture(name="redis")
async def _redis(redis_url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(client_id="path", redis_url=redis_url)
    await client.start()
    yield client
    await client.stop()
