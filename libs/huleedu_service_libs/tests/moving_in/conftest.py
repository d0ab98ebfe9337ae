"""Both sides' clients on the session's servers."""

from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import BlockingConnectionPool, Redis

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="moving", redis_url=redis_url) as client:
        yield client


@pytest.fixture(name="driver")
async def _driver(redis_url: str) -> AsyncIterator[Redis]:
    """The driver's client, as the earlier library used it."""
    pool = BlockingConnectionPool.from_url(redis_url, decode_responses=True, max_connections=50)
    async with Redis.from_pool(pool) as driver:
        yield driver


@pytest.fixture(name="bus")
async def _bus(real_kafka: KafkaServer) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(client_id="moving", bootstrap_servers=real_kafka.address) as bus:
        yield bus


@pytest.fixture(name="producer")
async def _producer(real_kafka: KafkaServer) -> AsyncIterator[AIOKafkaProducer]:
    """The driver's producer, as the earlier library used it."""
    async with AIOKafkaProducer(bootstrap_servers=real_kafka.address, acks="all", enable_idempotence=True) as producer:
        yield producer
