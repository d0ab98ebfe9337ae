"""What *notify* is put together from."""

from collections.abc import AsyncIterator

from dishka import AsyncContainer, Provider, Scope, make_async_container, provide

from essay_pipeline.consumer import EventConsumer, Route
from essay_pipeline.contracts import CHECKED_TOPIC, SUBMITTED_TOPIC, EssaySpellcheckedV1, EssaySubmittedV1
from essay_pipeline.notify.service import ACCEPTED_MARK, Notifier
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.notify.sockets import UserSockets
from essay_pipeline.settings import IDEMPOTENCY_PREFIX
from huleedu_service_libs.di import RedisProvider
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["ServiceProvider", "make_container"]


class ServiceProvider(Provider):
    """Settings, and what *notify* does with Redis and Kafka."""

    def __init__(self, settings: NotifySettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_sockets(self, redis: AtomicRedisClientProtocol) -> UserSockets:
        """The WebSocket side."""
        settings = self._settings
        return UserSockets(redis, most=settings.MAX_CONNECTIONS, send_seconds=settings.SEND_SECONDS)

    @provide
    async def provide_consumer(self, redis: AtomicRedisClientProtocol) -> AsyncIterator[EventConsumer]:
        """The Kafka side, from the start of the service to its end."""
        settings = self._settings
        notifier = Notifier(redis, mark_prefix=settings.redis_key(ACCEPTED_MARK))
        prefix = settings.redis_key(IDEMPOTENCY_PREFIX)
        once = idempotent_consumer(
            redis, IdempotencyConfig(settings.SERVICE_NAME, key_prefix=prefix, in_progress="wait")
        )
        consumer = EventConsumer(
            bootstrap_servers=settings.KAFKA_BOOTSTRAP_SERVERS,
            group_id=settings.group(settings.CONSUMER_GROUP),
            client_id=settings.SERVICE_NAME,
            routes=[
                Route(
                    topic=settings.topic(SUBMITTED_TOPIC),
                    model=EssaySubmittedV1,
                    handler=once(notifier.handle_submitted),
                ),
                Route(
                    topic=settings.topic(CHECKED_TOPIC),
                    model=EssaySpellcheckedV1,
                    handler=once(notifier.handle_checked),
                ),
            ],
        )
        yield consumer
        await consumer.stop()


def make_container(settings: NotifySettings) -> AsyncContainer:
    """The container; everything in it lives as long as the service."""
    return make_async_container(ServiceProvider(settings), RedisProvider(settings))
