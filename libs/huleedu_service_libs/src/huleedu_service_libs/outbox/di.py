"""Dishka providers of the outbox. The only module of the outbox that knows Dishka.

Pattern A: a service provides an `OutboxManager` itself, from repository, Redis
client and settings. Pattern B: ``make_async_container(CoreProvider(),
ServiceProvider(), OutboxProvider())``; the service provides the engine, its name
and the clients, and the outbox is there.
"""

import os

from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.protocols import EventTypeMapperProtocol, OutboxRepositoryProtocol
from huleedu_service_libs.outbox.relay import EventRelayWorker
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol

with requires_extra("di", module=__name__):
    from dishka import Provider, Scope, provide

__all__ = ["OutboxManagerProvider", "OutboxProvider", "OutboxSettingsProvider", "settings_for_environment"]


def settings_for_environment(environment: str | None = None) -> OutboxSettings:
    """The settings that fit an environment.

    Args:
        environment: ``testing``, ``development``, or anything else for production; by default the
            variable ``ENVIRONMENT``, and production when that is missing.
    """
    name = (environment if environment is not None else os.environ.get("ENVIRONMENT", "production")).lower()
    if name == "testing":
        return OutboxSettings(poll_interval_seconds=0.1, error_retry_interval_seconds=1.0, enable_metrics=False)
    if name == "development":
        return OutboxSettings(poll_interval_seconds=1.0, error_retry_interval_seconds=10.0)
    return OutboxSettings()


class OutboxProvider(Provider):
    """Provides settings, repository and relay; normally the last provider of a container.

    Needs ``AsyncEngine``, ``str`` (the service's name), ``KafkaPublisherProtocol`` and
    ``AtomicRedisClientProtocol`` from the service.

    Args:
        settings: Used instead of those of the environment. An `OutboxSettingsProvider` must stand
            behind this provider to win; here the order does not matter.
    """

    def __init__(self, settings: OutboxSettings | None = None) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_outbox_settings(self) -> OutboxSettings:
        """The given settings, or those of the variable ``ENVIRONMENT``."""
        return self._settings if self._settings is not None else settings_for_environment()

    @provide
    def provide_outbox_repository(
        self, engine: AsyncEngine, service_name: str, settings: OutboxSettings
    ) -> OutboxRepositoryProtocol:
        """The repository on the service's database."""
        return PostgreSQLOutboxRepository(
            engine=engine, service_name=service_name, enable_metrics=settings.enable_metrics
        )

    @provide
    def provide_event_type_mapper(self) -> EventTypeMapperProtocol | None:
        """None: the topic comes from the row."""
        return None

    @provide
    def provide_event_relay_worker(
        self,
        outbox_repository: OutboxRepositoryProtocol,
        kafka_bus: KafkaPublisherProtocol,
        settings: OutboxSettings,
        service_name: str,
        redis_client: AtomicRedisClientProtocol,
        event_mapper: EventTypeMapperProtocol | None,
    ) -> EventRelayWorker:
        """A relay, not started: the service's lifecycle starts and stops it."""
        return EventRelayWorker(
            outbox_repository=outbox_repository,
            kafka_bus=kafka_bus,
            settings=settings,
            service_name=service_name,
            redis_client=redis_client,
            event_mapper=event_mapper,
        )


class OutboxManagerProvider(Provider):
    """Provides the `OutboxManager`, for services that do not provide one themselves."""

    def __init__(self) -> None:
        super().__init__(scope=Scope.APP)

    @provide
    def provide_outbox_manager(
        self, repository: OutboxRepositoryProtocol, redis_client: AtomicRedisClientProtocol, service_name: str
    ) -> OutboxManager:
        """The manager; it has the relay's service name, so wake-ups arrive."""
        return OutboxManager(outbox_repository=repository, redis_client=redis_client, service_name=service_name)


class OutboxSettingsProvider(Provider):
    """Provides the given settings; put it behind `OutboxProvider`, whose own it replaces.

    Args:
        settings: The settings.
    """

    def __init__(self, settings: OutboxSettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_outbox_settings(self) -> OutboxSettings:
        """The given settings."""
        return self._settings
