"""The Redis client for a container. Loads no Kafka driver."""

from collections.abc import AsyncIterator
from typing import Protocol

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import PubSubConfig

with requires_extra("di", module=__name__):
    from dishka import AnyOf, Provider, Scope, provide

__all__ = ["RedisProvider", "RedisSettings"]


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


class RedisProvider(Provider):
    """One started `RedisClient` for the application, under its own name and those of both protocols.

    Args:
        settings: The service's settings.
        pubsub_config: Bounds of subscriptions, and what is kept of notifications.
    """

    def __init__(self, settings: RedisSettings, pubsub_config: PubSubConfig | None = None) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings
        self._pubsub_config = pubsub_config

    @provide
    async def redis_client(
        self,
    ) -> AsyncIterator[AnyOf[RedisClient, AtomicRedisClientProtocol, RedisClientProtocol]]:
        """The client, between ``start()`` and ``stop()``."""
        settings = self._settings
        async with RedisClient(
            client_id=f"{settings.SERVICE_NAME}-redis",
            redis_url=settings.REDIS_URL,
            pubsub_config=self._pubsub_config,
        ) as client:
            yield client
