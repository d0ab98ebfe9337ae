"""Fixtures of the outbox tests: a fresh database with the table, an engine on it."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from ..databases import engine_with


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    async with engine_with(Base.metadata, postgres_database) as engine:
        yield engine


@pytest.fixture(name="repository")
def _repository(engine: AsyncEngine) -> PostgreSQLOutboxRepository:
    """The table, as service ``svc`` has it."""
    return PostgreSQLOutboxRepository(engine, "svc")
