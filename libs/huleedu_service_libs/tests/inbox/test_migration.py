"""The helper for Alembic makes the very table that the library uses."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, inspect
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.inbox.migration import create_inbox_table, drop_inbox_table
from huleedu_service_libs.inbox.models import Base

pytestmark = pytest.mark.integration


def _up(connection: Connection) -> None:
    create_inbox_table(Operations(MigrationContext.configure(connection)))


def _down(connection: Connection) -> None:
    drop_inbox_table(Operations(MigrationContext.configure(connection)))


async def test_the_helper_makes_the_table(postgres_database: str) -> None:
    """After the upgrade Alembic sees no difference to the model; after the downgrade nothing is left."""
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(_up)
        differences = await connection.run_sync(
            lambda sync: compare_metadata(
                MigrationContext.configure(sync, opts={"compare_type": True, "compare_server_default": True}),
                Base.metadata,
            )
        )
        assert differences == []
        await connection.run_sync(_down)
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    await engine.dispose()
