"""What *intake* is put together from."""

from dishka import AsyncContainer, Provider, Scope, make_async_container, provide
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from essay_pipeline.database import DatabaseProvider
from essay_pipeline.intake.service import EssayIntake
from essay_pipeline.intake.settings import IntakeSettings
from huleedu_service_libs.database import DatabaseMetrics
from huleedu_service_libs.di import KafkaProvider, RedisProvider
from huleedu_service_libs.kafka_client import KafkaBusConfig
from huleedu_service_libs.outbox.di import OutboxManagerProvider, OutboxProvider
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.resilience import StandardCircuitBreakerMetrics

__all__ = ["CoreProvider", "make_container"]


class CoreProvider(Provider):
    """Settings, and what *intake* itself does."""

    def __init__(self, settings: IntakeSettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_settings(self) -> IntakeSettings:
        """The settings."""
        return self._settings

    @provide
    def provide_intake(
        self, sessions: async_sessionmaker[AsyncSession], outbox: OutboxManager, metrics: DatabaseMetrics
    ) -> EssayIntake:
        """What accepts essays."""
        return EssayIntake(sessions, outbox, self._settings, metrics)


def make_container(settings: IntakeSettings) -> AsyncContainer:
    """The container; everything in it lives as long as the service."""
    return make_async_container(
        CoreProvider(settings),
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
