"""The providers in a real container."""

from dataclasses import dataclass

import pytest
from dishka import make_async_container

from huleedu_service_libs.di import KafkaProvider, RedisProvider
from huleedu_service_libs.kafka import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol, RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreakerRegistry
from huleedu_service_libs.testing.devstack.servers import KafkaServer

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class _Settings:
    SERVICE_NAME: str
    REDIS_URL: str
    KAFKA_BOOTSTRAP_SERVERS: str


@dataclass(frozen=True)
class _NamedSettings(_Settings):
    PRODUCER_CLIENT_ID: str


async def test_a_container_starts_and_stops_real_clients(redis_url: str, real_kafka: KafkaServer) -> None:
    """Each client is one object under all its names, started when first asked for and stopped with the container."""
    settings = _Settings(SERVICE_NAME="essay", REDIS_URL=redis_url, KAFKA_BOOTSTRAP_SERVERS=real_kafka.address)
    container = make_async_container(RedisProvider(settings), KafkaProvider(settings))
    redis = await container.get(AtomicRedisClientProtocol)
    bus = await container.get(KafkaPublisherProtocol)
    assert redis is await container.get(RedisClientProtocol) is await container.get(RedisClient)
    assert bus is await container.get(KafkaBus)
    assert isinstance(redis, RedisClient)
    assert isinstance(bus, KafkaBus)
    assert await redis.ping()
    assert (redis._started, bus._started) == (True, True)
    assert (redis.client_id, bus.client_id) == ("essay-redis", "essay-producer")
    await container.close()
    assert (redis._started, bus._started) == (False, False)


async def test_the_producer_may_be_named(redis_url: str, real_kafka: KafkaServer) -> None:
    """`PRODUCER_CLIENT_ID` names the Kafka client when the settings have it."""
    settings = _NamedSettings(
        SERVICE_NAME="essay",
        REDIS_URL=redis_url,
        KAFKA_BOOTSTRAP_SERVERS=real_kafka.address,
        PRODUCER_CLIENT_ID="essay-events",
    )
    container = make_async_container(KafkaProvider(settings))
    assert (await container.get(KafkaBus)).client_id == "essay-events"
    await container.close()


@dataclass(frozen=True)
class _GuardedSettings(_Settings):
    CIRCUIT_BREAKER_ENABLED: bool = True
    KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD: int = 7
    KAFKA_FALLBACK_QUEUE_SIZE: int = 50


async def test_the_publisher_is_guarded_when_the_settings_say_so(redis_url: str, real_kafka: KafkaServer) -> None:
    """`CIRCUIT_BREAKER_ENABLED` puts breaker and queue around the bus, and the breaker into the registry."""
    settings = _GuardedSettings(SERVICE_NAME="essay", REDIS_URL=redis_url, KAFKA_BOOTSTRAP_SERVERS=real_kafka.address)
    container = make_async_container(KafkaProvider(settings))
    publisher = await container.get(KafkaPublisherProtocol)
    bus = await container.get(KafkaBus)
    breaker = (await container.get(CircuitBreakerRegistry)).get("kafka_producer")
    assert isinstance(publisher, ResilientKafkaPublisher)
    assert publisher.delegate is bus
    assert breaker is publisher.circuit_breaker
    assert breaker is not None
    assert (breaker.name, breaker.failure_threshold, breaker.success_threshold) == ("essay.kafka_producer", 7, 3)
    assert publisher.fallback_handler.max_queue_size == 50
    assert bus._started
    await container.close()
    assert not bus._started
