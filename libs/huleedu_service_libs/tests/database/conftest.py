"""Fixtures of the database tests: engines on a fresh database, and a service name of the test's own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine


class MakeEngine(Protocol):
    """Makes an engine on the test's database; all are disposed of at the end."""

    def __call__(self, **options: Any) -> AsyncEngine:
        """With the options of ``create_async_engine``."""


@pytest.fixture(name="make_engine")
async def _make_engine(postgres_database: str) -> AsyncIterator[MakeEngine]:
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> AsyncEngine:
            engine = create_async_engine(postgres_database, **options)
            stack.push_async_callback(engine.dispose)
            return engine

        yield make


@pytest.fixture(name="engine")
async def _engine(make_engine: MakeEngine) -> AsyncEngine:
    """Two connections and one of overflow; whoever waits gives up after a second. With a table ``essays`` of two rows."""
    engine = make_engine(pool_size=2, max_overflow=1, pool_timeout=1)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE essays (id int PRIMARY KEY, title text)"))
        await connection.execute(text("INSERT INTO essays VALUES (1, 'one'), (2, 'two')"))
    await engine.dispose()
    return engine


@pytest.fixture(name="service")
def _service(unique_name: str) -> str:
    """A service name that is a prefix of metrics as it is."""
    return unique_name.replace("-", "_")
