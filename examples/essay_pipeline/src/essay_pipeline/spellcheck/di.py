"""What *spellcheck* is put together from."""

from collections.abc import AsyncIterator

from dishka import AsyncContainer, Provider, Scope, make_async_container, provide
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from essay_pipeline.consumer import make_consumer
from essay_pipeline.contracts import SUBMITTED_TOPIC, EssaySubmittedV1
from essay_pipeline.database import DatabaseProvider
from essay_pipeline.spellcheck.service import EssayChecker
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from essay_pipeline.spelling import SpellChecker
from huleedu_service_libs.database import DatabaseMetrics
from huleedu_service_libs.di import KafkaProvider, RedisProvider
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.outbox.di import OutboxManagerProvider, OutboxProvider
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.resilience import StandardCircuitBreakerMetrics

__all__ = ["CoreProvider", "ServiceProvider", "make_container"]


class CoreProvider(Provider):
    """Settings."""

    def __init__(self, settings: SpellcheckSettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_settings(self) -> SpellcheckSettings:
        """The settings."""
        return self._settings


class ServiceProvider(Provider):
    """What *spellcheck* itself does."""

    def __init__(self) -> None:
        super().__init__(scope=Scope.APP)

    spelling = provide(SpellChecker)

    @provide
    def provide_checker(
        self,
        sessions: async_sessionmaker[AsyncSession],
        outbox: OutboxManager,
        spelling: SpellChecker,
        settings: SpellcheckSettings,
        metrics: DatabaseMetrics,
    ) -> EssayChecker:
        """What checks essays."""
        return EssayChecker(sessions, outbox, spelling, settings, metrics)

    @provide
    async def provide_consumer(
        self, settings: SpellcheckSettings, checker: EssayChecker, redis: AtomicRedisClientProtocol, bus: KafkaBus
    ) -> AsyncIterator[EventConsumer]:
        """What feeds it, from the start of the service to its end."""
        consumer = make_consumer(settings, settings.CONSUMER_GROUP, (SUBMITTED_TOPIC,), redis, bus)
        consumer.on(SUBMITTED_TOPIC, model=EssaySubmittedV1)(checker.handle)
        yield consumer
        await consumer.stop()


def make_container(settings: SpellcheckSettings) -> AsyncContainer:
    """The container; everything in it lives as long as the service."""
    return make_async_container(
        CoreProvider(settings),
        ServiceProvider(),
        DatabaseProvider(settings.DATABASE_URL, settings.SERVICE_NAME),
        RedisProvider(settings),
        KafkaProvider(
            settings,
            KafkaBusConfig(enable_idempotence=settings.KAFKA_IDEMPOTENT_PRODUCER),
            metrics=StandardCircuitBreakerMetrics(),
        ),
        OutboxManagerProvider(),
        OutboxProvider(),
    )
