"""A fresh database with the inbox' and the outbox' tables and one for effects; sessions on it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from huleedu_service_libs.inbox.models import Base
from huleedu_service_libs.outbox.models import Base as OutboxBase


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database, pool_size=20)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.run_sync(OutboxBase.metadata.create_all)
        await connection.execute(text("CREATE TABLE effects (event text NOT NULL)"))
    yield engine
    await engine.dispose()


@pytest.fixture(name="sessions")
def _sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False)
