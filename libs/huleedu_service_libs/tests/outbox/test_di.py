"""The outbox in a Dishka container: patterns A and B, the settings of an environment, who wins."""

from dataclasses import astuple
from unittest.mock import AsyncMock, Mock

import pytest
from dishka import Provider, Scope, make_async_container, provide
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox import (
    EventRelayWorker,
    OutboxManager,
    OutboxManagerProvider,
    OutboxProvider,
    OutboxRepositoryProtocol,
    OutboxSettings,
    OutboxSettingsProvider,
    PostgreSQLOutboxRepository,
)
from huleedu_service_libs.outbox.di import settings_for_environment
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol


class CoreProvider(Provider):
    """What a service brings."""

    scope = Scope.APP

    @provide
    def engine(self) -> AsyncEngine:
        """The database."""
        return Mock(spec=AsyncEngine)

    @provide
    def service_name(self) -> str:
        """Its name."""
        return "my-service"

    @provide
    def publisher(self) -> KafkaPublisherProtocol:
        """Kafka."""
        return AsyncMock(spec=KafkaPublisherProtocol)

    @provide
    def redis(self) -> AtomicRedisClientProtocol:
        """Redis."""
        return AsyncMock(spec=AtomicRedisClientProtocol)


class PatternA(Provider):
    """A service that provides the manager itself, from repository, Redis client and its name."""

    scope = Scope.APP

    @provide
    def manager(
        self, repository: OutboxRepositoryProtocol, redis: AtomicRedisClientProtocol, service_name: str
    ) -> OutboxManager:
        """The manager."""
        return OutboxManager(repository, redis, service_name)


@pytest.mark.parametrize("provider", [PatternA, OutboxManagerProvider])
async def test_a_container_has_the_whole_outbox(provider: type[Provider]) -> None:
    """Repository, manager and relay fit each other: one repository, one name, the wake-up list of that name."""
    container = make_async_container(CoreProvider(), provider(), OutboxProvider())
    repository = await container.get(OutboxRepositoryProtocol)
    manager = await container.get(OutboxManager)
    relay = await container.get(EventRelayWorker)
    assert isinstance(repository, PostgreSQLOutboxRepository)
    assert manager.outbox_repository is repository
    assert relay.outbox_repository is repository
    assert (manager.service_name, relay.service_name, relay.wake_key) == (
        "my-service",
        "my-service",
        "outbox:wake:my-service",
    )
    assert relay.redis_client is manager.redis_client
    await container.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ("testing", (0.1, 100, 5, 1.0, False, True)),
        ("Development", (1.0, 100, 5, 10.0, True, True)),
        ("production", (5.0, 100, 5, 30.0, True, True)),
        ("anything", (5.0, 100, 5, 30.0, True, True)),
    ],
)
def test_settings_fit_the_environment(environment: str, expected: tuple[object, ...]) -> None:
    """Poll interval, batch, retries, error interval, metrics and wake-ups for each environment, in any case."""
    assert astuple(settings_for_environment(environment))[:6] == expected


async def test_the_variable_decides_when_the_container_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ENVIRONMENT`` is read when settings are asked for; missing means production."""
    monkeypatch.setenv("ENVIRONMENT", "testing")
    container = make_async_container(CoreProvider(), OutboxProvider())
    assert (await container.get(OutboxSettings)).poll_interval_seconds == 0.1
    assert (await container.get(EventRelayWorker)).metrics is None
    await container.close()
    monkeypatch.delenv("ENVIRONMENT")
    assert settings_for_environment() == OutboxSettings()


async def test_settings_of_ones_own() -> None:
    """Given to the provider, or by a provider behind it."""
    mine = OutboxSettings(batch_size=7)
    for providers in ((OutboxProvider(mine),), (OutboxProvider(), OutboxSettingsProvider(mine))):
        container = make_async_container(CoreProvider(), *providers)
        assert await container.get(OutboxSettings) is mine
        await container.close()
