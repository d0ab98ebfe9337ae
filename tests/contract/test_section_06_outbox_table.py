"""Sections 6, 6.1, 6.2 and 6.8: the table, its model, its ports, and the migration that makes it."""

import re
from importlib.resources import files
from typing import Any
from unittest.mock import Mock
from uuid import UUID

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Table, delete, inspect, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase

from huleedu_service_libs import outbox
from huleedu_service_libs.outbox import EventOutbox, OutboxEvent, OutboxRepositoryProtocol
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from tests.contract.signatures import Wanted, lines

REPOSITORY = """
async {}.add_event(aggregate_id, aggregate_type, event_type, event_data, topic, event_key=None, session=None)
async {}.get_unpublished_events(limit=100)
async {}.mark_event_published(event_id)
async {}.mark_event_failed(event_id, error)
async {}.increment_retry_count(event_id, error)
async {}.get_event_by_id(event_id)
"""
TABLE = f"""
[6.2-repository]
{REPOSITORY.replace("{}", "outbox.protocols:OutboxRepositoryProtocol")}
[6.2-mapper]
def outbox.protocols:EventTypeMapperProtocol.get_topic_for_event(event_type)
[6.3-signatures]
class outbox.repository:PostgreSQLOutboxRepository(engine, service_name='unknown', enable_metrics=True)
{REPOSITORY.replace("{}", "outbox.repository:PostgreSQLOutboxRepository")}
"""
COLUMNS = [
    ("id", "UUID", False),
    ("aggregate_id", "VARCHAR(255)", False),
    ("aggregate_type", "VARCHAR(100)", False),
    ("event_type", "VARCHAR(255)", False),
    ("event_data", "JSON", False),
    ("event_key", "VARCHAR(255)", True),
    ("topic", "VARCHAR(255)", False),
    ("created_at", "TIMESTAMP WITH TIME ZONE", False),
    ("published_at", "TIMESTAMP WITH TIME ZONE", True),
    ("retry_count", "INTEGER", False),
    ("last_error", "TEXT", True),
]
INDEXES = {
    "ix_event_outbox_unpublished": ["published_at", "created_at"],
    "ix_event_outbox_aggregate": ["aggregate_type", "aggregate_id"],
    "ix_event_outbox_event_type": ["event_type"],
}
NEW: dict[str, Any] = {
    "aggregate_id": "a-1",
    "aggregate_type": "essay",
    "event_type": "e.v1",
    "event_data": {"data": {"text": "å"}},
    "event_key": "k",
    "topic": "t",
}


@pytest.mark.parametrize("wanted", lines("06 outbox ports and repository", TABLE), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.contract("6-package-exports")
def test_exports() -> None:
    """Nine names of the package; two more of their modules."""
    names = (
        "OutboxRepositoryProtocol OutboxEvent EventTypeMapperProtocol EventOutbox PostgreSQLOutboxRepository "
        "EventRelayWorker OutboxProvider OutboxSettingsProvider OutboxSettings"
    )
    for name in names.split():
        assert isinstance(getattr(outbox, name), type), name
    assert (OutboxManager.__name__, OutboxMetrics.__name__) == ("OutboxManager", "OutboxMetrics")


# 6.1


@pytest.mark.contract("6.1-base")
def test_the_base_is_the_outboxs_own() -> None:
    """One table in its metadata, so that a service may map the same table name in its own."""
    assert issubclass(Base, DeclarativeBase)
    assert list(Base.metadata.tables) == ["event_outbox"]
    assert EventOutbox.metadata is Base.metadata

    class _ServiceBase(DeclarativeBase):
        pass

    Table("event_outbox", _ServiceBase.metadata)
    assert Base.metadata.tables["event_outbox"] is EventOutbox.__table__


@pytest.mark.contract("6.1-columns", "6.1-indexes")
def test_table() -> None:
    """Eleven columns and three indexes, one of them over unpublished rows only."""
    table = EventOutbox.__table__
    assert isinstance(table, Table)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert [(c.name, c.type.compile(dialect), c.nullable) for c in table.columns] == COLUMNS
    assert [column.name for column in table.primary_key] == ["id"]
    assert {str(index.name): [column.name for column in index.columns] for index in table.indexes} == INDEXES
    partial = {str(i.name): str(i.dialect_options["postgresql"]["where"]) for i in table.indexes}
    assert partial["ix_event_outbox_unpublished"].endswith("published_at IS NULL")
    assert {partial["ix_event_outbox_aggregate"], partial["ix_event_outbox_event_type"]} == {"None"}


@pytest.mark.contract("6.1-defaults", "6.1-model")
async def test_what_the_model_and_the_server_fill_in(postgres_database: str) -> None:
    """Six fields are given; the id comes from Python, the time and the count from the server."""
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(EventOutbox.metadata.create_all)
        defaults = await connection.run_sync(_server_defaults)
    async with AsyncSession(engine) as session:
        session.add(EventOutbox(**NEW))
        await session.commit()
        (row,) = (await session.execute(select(EventOutbox))).scalars().all()
        assert {name: getattr(row, name) for name in NEW} == NEW
        assert isinstance(row.id, UUID)
        assert (row.created_at.utcoffset() is not None, row.published_at, row.retry_count, row.last_error) == (
            True,
            None,
            0,
            None,
        )
        await session.execute(delete(EventOutbox))
        await session.commit()
        assert (await session.execute(select(EventOutbox))).scalars().all() == []
    await engine.dispose()
    assert (defaults["created_at"], defaults["retry_count"].strip("'").split("'")[0]) == ("now()", "0")
    assert EventOutbox.__table__.c.id.default is not None
    assert EventOutbox.__table__.c.retry_count.default.arg == 0


def _server_defaults(connection: Connection) -> dict[str, str]:
    return {column["name"]: str(column["default"]) for column in inspect(connection).get_columns("event_outbox")}


@pytest.mark.contract("6.1-model")
def test_the_name_and_a_mock_of_the_model() -> None:
    """The name is that of the table; a mock with the model as its spec has the columns."""
    assert EventOutbox.__tablename__ == "event_outbox"
    double = Mock(spec=EventOutbox)
    double.id, double.topic = UUID(int=1), "t"
    assert {name for name, _, _ in COLUMNS} <= set(dir(double))
    with pytest.raises(AttributeError):
        _ = double.no_such_column


# 6.2


@pytest.mark.contract("6.2-event")
def test_an_event_is_eleven_properties() -> None:
    """Read only, and no others."""
    names = {name for name in vars(OutboxEvent) if not name.startswith("_")}
    assert names == {name for name, _, _ in COLUMNS}
    assert all(isinstance(vars(OutboxEvent)[name], property) and not vars(OutboxEvent)[name].fset for name in names)
    assert OutboxEvent._is_protocol is True  # type: ignore[attr-defined]


@pytest.mark.contract("6.2-repository")
def test_the_repositorys_port_has_six_methods() -> None:
    """A hand-written repository with these six is complete."""
    assert {name for name in vars(OutboxRepositoryProtocol) if not name.startswith("_")} == {
        line.partition("{}.")[2].partition("(")[0] for line in REPOSITORY.splitlines() if line
    }


# 6.8


def _revision() -> dict[str, Any]:
    """The template, filled in and read as Python."""
    template = (files("huleedu_service_libs.outbox") / "templates" / "create_outbox_table.py.template").read_text()
    given = {"SERVICE_NAME": "svc", "REVISION_ID": "0001", "DOWN_REVISION": "0000", "CREATE_DATE": "2025-01-01"}
    assert set(re.findall(r"{([A-Z_]+)}", template)) == set(given)
    for name, value in given.items():
        template = template.replace(f"{{{name}}}", value)
    module: dict[str, Any] = {}
    exec(compile(template, "revision.py", "exec"), module)  # noqa: S102  # as Alembic does with a revision
    return module


@pytest.mark.contract("6.8-template")
async def test_the_template_of_the_migration(postgres_database: str) -> None:
    """Its upgrade makes what the model describes, with comments; its downgrade leaves nothing."""
    revision = _revision()
    assert (revision["revision"], revision["down_revision"]) == ("0001", "0000")

    def migrate(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            revision["upgrade"]()
            found = inspect(connection)
            dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
            columns = found.get_columns("event_outbox")
            assert [(c["name"], c["type"].compile(dialect), c["nullable"]) for c in columns] == COLUMNS
            assert all(column["comment"] for column in columns)
            assert found.get_table_comment("event_outbox")["text"]
            assert {i["name"]: i["column_names"] for i in found.get_indexes("event_outbox")} == INDEXES
            assert _server_defaults(connection).items() >= {"created_at": "now()", "retry_count": "0"}.items()
            revision["downgrade"]()
            assert inspect(connection).get_table_names() == []

    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()
