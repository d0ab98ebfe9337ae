"""Dishka providers of the Redis and Kafka clients: they start with the container and stop with it.

A service puts them beside its own providers and binds nothing twice::

    container = make_async_container(RedisProvider(settings), KafkaProvider(settings), ServiceProvider())

Knows the clients and the names of four settings, nothing of what is built on them.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol, RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient

with requires_extra("di", module=__name__):
    from dishka import AnyOf, Provider, Scope, provide

__all__ = ["KafkaProvider", "KafkaSettings", "RedisProvider", "RedisSettings"]


class RedisSettings(Protocol):
    """What `RedisProvider` reads of a service's settings."""

    @property
    def SERVICE_NAME(self) -> str:  # noqa: N802  # the services' name
        """The service; the client's id is ``<SERVICE_NAME>-redis``."""
        ...

    @property
    def REDIS_URL(self) -> str:  # noqa: N802  # the services' name
        """The server."""
        ...


class KafkaSettings(Protocol):
    """What `KafkaProvider` reads; ``PRODUCER_CLIENT_ID`` is used when it is there, too."""

    @property
    def SERVICE_NAME(self) -> str:  # noqa: N802  # the services' name
        """The service; the client's id is ``<SERVICE_NAME>-producer`` by default."""
        ...

    @property
    def KAFKA_BOOTSTRAP_SERVERS(self) -> str:  # noqa: N802  # the services' name
        """``host:port``, comma-separated."""
        ...


class RedisProvider(Provider):
    """One started `RedisClient` for the application, under its own name and those of both protocols.

    Args:
        settings: The service's settings.
    """

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    async def redis_client(
        self,
    ) -> AsyncIterator[AnyOf[RedisClient, AtomicRedisClientProtocol, RedisClientProtocol]]:
        """The client, between ``start()`` and ``stop()``."""
        settings = self._settings
        async with RedisClient(client_id=f"{settings.SERVICE_NAME}-redis", redis_url=settings.REDIS_URL) as client:
            yield client


class KafkaProvider(Provider):
    """One started `KafkaBus` for the application, also as `KafkaPublisherProtocol`.

    Args:
        settings: The service's settings.
        config: Time-outs and sizes of the bus.
    """

    def __init__(self, settings: KafkaSettings, config: KafkaBusConfig | None = None) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings
        self._config = config

    @provide
    async def kafka_bus(self) -> AsyncIterator[AnyOf[KafkaBus, KafkaPublisherProtocol]]:
        """The bus, between ``start()`` and ``stop()``."""
        settings = self._settings
        client_id = getattr(settings, "PRODUCER_CLIENT_ID", None) or f"{settings.SERVICE_NAME}-producer"
        async with KafkaBus(
            client_id=client_id, bootstrap_servers=settings.KAFKA_BOOTSTRAP_SERVERS, config=self._config
        ) as bus:
            yield bus
