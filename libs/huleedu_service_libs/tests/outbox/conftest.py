"""Fixtures of the outbox tests: a fresh database with the table, an engine on it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


@pytest.fixture(name="repository")
def _repository(engine: AsyncEngine) -> PostgreSQLOutboxRepository:
    """The table, as service ``svc`` has it."""
    return PostgreSQLOutboxRepository(engine, "svc")
