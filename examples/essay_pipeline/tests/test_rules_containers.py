"""What the containers of the services hand out: started and stopped with them, one of a kind, guarded when the settings say so."""

import pytest

from essay_pipeline.demo.processes import Servers
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox import EventRelayWorker
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.protocols import KafkaPublisherProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreakerRegistry

from .example import SERVICES, SOURCES, container_of, settings_of


@pytest.mark.integration
@pytest.mark.parametrize("name", SERVICES)
async def test_clients_live_between_start_and_stop(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each service: what the container hands out has been started, and is stopped when the container is closed."""
    container = container_of(name, settings_of(name, servers, monkeypatch))
    redis, bus = await container.get(RedisClient), await container.get(KafkaBus)
    assert (redis._started, bus._started, await redis.ping()) == (True, True, True)
    await container.close()
    assert (redis._started, bus._started) == (False, False)


@pytest.mark.integration
@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("name", ["intake", "spellcheck"])
async def test_the_publisher_is_what_the_settings_say(
    name: str,
    enabled: bool,  # noqa: FBT001
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `CIRCUIT_BREAKER_ENABLED`, and by default, the publisher has a breaker of the one registry; without, it is the bus."""
    assert SERVICES[name][1].model_fields["CIRCUIT_BREAKER_ENABLED"].default is True
    container = container_of(name, settings_of(name, servers, monkeypatch, CIRCUIT_BREAKER_ENABLED=enabled))
    try:
        publisher, bus = await container.get(KafkaPublisherProtocol), await container.get(KafkaBus)
        registry = await container.get(CircuitBreakerRegistry)
        if enabled:
            assert isinstance(publisher, ResilientKafkaPublisher)
            assert publisher.delegate is bus
            assert registry.get("kafka_producer") is publisher.circuit_breaker
        else:
            assert (publisher, registry.get("kafka_producer")) == (bus, None)
    finally:
        await container.close()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["intake", "spellcheck"])
async def test_everything_lives_as_long_as_the_service(
    name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One object of each kind for the application, put together from the service's providers and the library's."""
    container = container_of(name, settings_of(name, servers, monkeypatch))
    try:
        for kind in (OutboxManager, EventRelayWorker, RedisClient, KafkaPublisherProtocol):
            assert await container.get(kind) is await container.get(kind)
        manager, relay = await container.get(OutboxManager), await container.get(EventRelayWorker)
        assert manager.outbox_repository is relay.outbox_repository
        assert manager.redis_client is await container.get(RedisClient)
        assert manager.service_name == relay.service_name == f"{name}-service"
    finally:
        await container.close()


@pytest.mark.integration
@pytest.mark.parametrize("name", ["spellcheck", "notify"])
async def test_every_consumer_is_idempotent(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one consumer in each service that has any, and each is behind a step that claims events in Redis."""
    container = container_of(name, settings_of(name, servers, monkeypatch))
    try:
        consumer = await container.get(EventConsumer)
        made = [path for path in SOURCES if "EventConsumer(" in path.read_text(encoding="utf-8")]
        assert [path.name for path in made] == ["consumer.py"]
        assert "steps=[IdempotentStep(redis, once)]" in made[0].read_text(encoding="utf-8")
        assert consumer.config.group_id.endswith(f"{name}-service")
    finally:
        await container.close()
