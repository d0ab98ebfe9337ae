"""What *notify* is put together from."""

from collections.abc import AsyncIterator

from dishka import AsyncContainer, Provider, Scope, make_async_container, provide

from essay_pipeline.consumer import make_consumer
from essay_pipeline.contracts import CHECKED_TOPIC, SUBMITTED_TOPIC, EssaySpellcheckedV1, EssaySubmittedV1
from essay_pipeline.notify.service import Notifier
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.notify.sockets import UserSockets
from huleedu_service_libs.di import KafkaProvider, RedisProvider
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import NotificationHistory, PubSubConfig

__all__ = ["ServiceProvider", "make_container"]


class ServiceProvider(Provider):
    """Settings, and what *notify* does with Redis and Kafka."""

    def __init__(self, settings: NotifySettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_sockets(self, redis: RedisClient) -> UserSockets:
        """The WebSocket side."""
        settings = self._settings
        return UserSockets(redis, most=settings.MAX_CONNECTIONS, send_seconds=settings.SEND_SECONDS)

    @provide
    async def provide_consumer(self, redis: RedisClient, bus: KafkaBus) -> AsyncIterator[EventConsumer]:
        """The Kafka side, from the start of the service to its end."""
        settings = self._settings
        notifier = Notifier(redis)
        consumer = make_consumer(settings, settings.CONSUMER_GROUP, (SUBMITTED_TOPIC, CHECKED_TOPIC), redis, bus)
        consumer.on(SUBMITTED_TOPIC, model=EssaySubmittedV1)(notifier.handle_submitted)
        consumer.on(CHECKED_TOPIC, model=EssaySpellcheckedV1)(notifier.handle_checked)
        yield consumer
        await consumer.stop()


def make_container(settings: NotifySettings) -> AsyncContainer:
    """The container; everything in it lives as long as the service."""
    return make_async_container(
        ServiceProvider(settings),
        RedisProvider(settings, PubSubConfig(history=NotificationHistory(key_prefix=settings.redis_key("")))),
        KafkaProvider(settings, KafkaBusConfig(enable_idempotence=settings.KAFKA_IDEMPOTENT_PRODUCER)),
    )
