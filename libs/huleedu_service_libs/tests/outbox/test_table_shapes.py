"""The tables that services have: every variant works, none needs more, and the template makes the same."""

from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.outbox.insertion import NewRow
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.protocols import FailedEvent
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.testing.devstack.servers import PostgresServer
from tests.contract.outbox_tables import VARIANTS

from .rows import ADD

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("ddl", VARIANTS.values(), ids=VARIANTS.keys())
async def test_every_table_that_services_have(postgres_database: str, ddl: str) -> None:
    """Adding, reading, failing and publishing work on each variant, in a session with another time zone too."""
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": "Europe/Stockholm"}})
    async with engine.begin() as connection:
        for statement in ddl.split(";"):
            await connection.execute(text(statement))
    repository = PostgreSQLOutboxRepository(engine, "svc")
    store = repository.batch_store()
    ids = [await repository.add_event(**ADD) for _ in range(2)]
    rows = [NewRow(id=uuid7(), **ADD) for _ in range(2)]
    await repository.add_events(rows)
    ids += [row.id for row in rows]
    await repository.mark_event_published(ids[0])
    events = await store.fetch(limit=10, max_retries=5, held_keys=[], held_topics=[])
    assert [event.id for event in events] == ids[1:]
    assert {str(event.event_data) for event in events} == {str(ADD["event_data"])}
    assert abs(datetime.now(UTC) - events[0].created_at) < timedelta(seconds=30)  # the moment, whatever the zone
    await store.settle(published=events[:1], failed=[FailedEvent(event=events[1], error="no")], max_retries=5)
    assert [event.id for event in await repository.get_unpublished_events()] == ids[2:]
    last = await repository.get_event_by_id(ids[2])
    assert last is not None
    assert last.retry_count == 1
    await store.close()
    await engine.dispose()


async def test_the_table_has_exactly_the_eleven_columns_and_three_indexes(engine: AsyncEngine) -> None:
    """Services' own migrations made the table; nothing more may be needed, and the metadata stays apart."""
    async with engine.connect() as connection:
        columns = (
            await connection.scalars(
                text(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = 'event_outbox'"
                    " ORDER BY ordinal_position"
                )
            )
        ).all()
        indexes = (
            await connection.scalars(text("SELECT indexname FROM pg_indexes WHERE tablename = 'event_outbox'"))
        ).all()
    assert columns == [
        "id",
        "aggregate_id",
        "aggregate_type",
        "event_type",
        "event_data",
        "event_key",
        "topic",
        "created_at",
        "published_at",
        "retry_count",
        "last_error",
    ]
    assert {"ix_event_outbox_unpublished", "ix_event_outbox_aggregate", "ix_event_outbox_event_type"} <= set(indexes)
    assert set(Base.metadata.tables) == {"event_outbox"}


async def test_the_migration_template_makes_the_same_table(
    engine: AsyncEngine, postgres_server: PostgresServer
) -> None:
    """Filled in and run, the shipped revision creates what the model says, and takes it away again."""
    template = (files("huleedu_service_libs.outbox") / "templates" / "create_outbox_table.py.template").read_text()
    for name in ("SERVICE_NAME", "REVISION_ID", "DOWN_REVISION", "CREATE_DATE"):
        assert f"{{{name}}}" in template
        template = template.replace(f"{{{name}}}", "x")
    revision: dict[str, Any] = {}
    exec(compile(template, "revision.py", "exec"), revision)  # noqa: S102  # our own template
    other = create_async_engine(postgres_server.create_database().replace("postgresql://", "postgresql+asyncpg://", 1))

    def run(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            revision["upgrade"]()

    async with other.begin() as connection:
        await connection.run_sync(run)
    assert await _shape(other) == await _shape(engine)

    def back(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            revision["downgrade"]()

    async with other.begin() as connection:
        await connection.run_sync(back)
    assert await _shape(other) == ([], [])
    await other.dispose()


async def _shape(engine: AsyncEngine) -> tuple[list[Any], list[Any]]:
    async with engine.connect() as connection:
        columns = await connection.execute(
            text(
                "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default"
                " FROM information_schema.columns WHERE table_name = 'event_outbox' ORDER BY ordinal_position"
            )
        )
        indexes = await connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE tablename = 'event_outbox' ORDER BY indexname")
        )
        return list(columns.all()), list(indexes.all())
