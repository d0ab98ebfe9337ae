"""The PostgreSQL side of a service: engine and sessions, tables, health.

*intake* and *spellcheck* use it. Real services bring Alembic migrations; here
the tables are created at the start when they are missing.
"""

from collections.abc import AsyncIterator, Sequence

from dishka import Provider, Scope, provide
from sqlalchemy import MetaData, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from huleedu_service_libs.database import DatabaseHealthChecker, DatabaseMetrics, setup_database_monitoring

__all__ = ["DatabaseProvider", "create_tables", "make_engine"]

_CONNECT_LIMIT_S = 10
_TABLES_LOCK = 0x655A  # key of a PostgreSQL advisory lock; any number does, if all take the same


def make_engine(url: str) -> AsyncEngine:
    """An engine over ``postgresql+asyncpg://...``; connects when it is first used."""
    return create_async_engine(url, pool_size=10, pool_pre_ping=True, connect_args={"timeout": _CONNECT_LIMIT_S})


class DatabaseProvider(Provider):
    """Engine and sessions of a service, and the name that its outbox signs with.

    Args:
        url: ``postgresql+asyncpg://...``.
        service_name: The name.
    """

    def __init__(self, url: str, service_name: str) -> None:
        super().__init__(scope=Scope.APP)
        self._url = url
        self._service_name = service_name

    @provide
    def provide_service_name(self) -> str:
        """The name that the outbox signs with."""
        return self._service_name

    @provide
    async def provide_engine(self) -> AsyncIterator[AsyncEngine]:
        """The engine, watched from its first connection and disposed of at the end."""
        engine = make_engine(self._url)
        setup_database_monitoring(engine, self._service_name)
        yield engine
        await engine.dispose()

    @provide
    def provide_metrics(self, engine: AsyncEngine) -> DatabaseMetrics:
        """Where the service records its critical queries: beside the engine's own figures, which are set up once."""
        return setup_database_monitoring(engine, self._service_name)

    @provide
    def provide_health_checker(self, engine: AsyncEngine) -> DatabaseHealthChecker:
        """What tells how the database is."""
        return DatabaseHealthChecker(engine, self._service_name)

    @provide
    def provide_sessions(self, engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
        """What makes sessions."""
        return async_sessionmaker(engine, expire_on_commit=False)


async def create_tables(engine: AsyncEngine, metadata: Sequence[MetaData]) -> None:
    """Create what is missing; several processes may do so at the same time."""
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _TABLES_LOCK})
        for each in metadata:
            await connection.run_sync(each.create_all)
