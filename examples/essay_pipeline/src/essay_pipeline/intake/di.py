"""What *intake* is put together from."""

from collections.abc import AsyncIterator

from dishka import AsyncContainer, Provider, Scope, make_async_container, provide
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from essay_pipeline.database import make_engine
from essay_pipeline.intake.service import EssayIntake
from essay_pipeline.intake.settings import IntakeSettings
from huleedu_service_libs.di import KafkaProvider, RedisProvider
from huleedu_service_libs.kafka_client import KafkaBusConfig
from huleedu_service_libs.outbox.di import OutboxManagerProvider, OutboxProvider
from huleedu_service_libs.outbox.manager import OutboxManager

__all__ = ["CoreProvider", "make_container"]


class CoreProvider(Provider):
    """Settings and database, and what *intake* itself does with them."""

    def __init__(self, settings: IntakeSettings) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings

    @provide
    def provide_settings(self) -> IntakeSettings:
        """The settings."""
        return self._settings

    @provide
    def provide_service_name(self) -> str:
        """The name that the outbox signs with."""
        return self._settings.SERVICE_NAME

    @provide
    async def provide_engine(self) -> AsyncIterator[AsyncEngine]:
        """The engine, disposed of at the end."""
        engine = make_engine(self._settings.DATABASE_URL)
        yield engine
        await engine.dispose()

    @provide
    def provide_sessions(self, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        """What makes sessions."""
        return async_sessionmaker(engine, expire_on_commit=False)

    @provide
    def provide_intake(self, sessions: async_sessionmaker[AsyncSession], outbox: OutboxManager) -> EssayIntake:
        """What accepts essays."""
        return EssayIntake(sessions, outbox, self._settings)


def make_container(settings: IntakeSettings) -> AsyncContainer:
    """The container; everything in it lives as long as the service."""
    return make_async_container(
        CoreProvider(settings),
        RedisProvider(settings),
        KafkaProvider(settings, KafkaBusConfig(enable_idempotence=settings.KAFKA_IDEMPOTENT_PRODUCER)),
        OutboxManagerProvider(),
        OutboxProvider(),
    )
