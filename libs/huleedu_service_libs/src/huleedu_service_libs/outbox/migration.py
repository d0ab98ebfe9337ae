"""The tables of the outbox, made inside a service's Alembic revision.

    def upgrade() -> None:
        create_outbox_table(op)

Revisions that must not change with this library start from the file
``templates/create_outbox_table.py.template`` instead, which spells everything
out. Both make what `EventOutbox` says. Needs no Alembic of its own: ``op`` is
handed in.
"""

from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from huleedu_service_libs.outbox.models import EventOutbox

__all__ = ["create_audit_table", "create_outbox_table", "drop_audit_table", "drop_outbox_table"]

_AUDIT_TABLE = "outbox_audit"


class MigrationOperations(Protocol):
    """What is needed of ``alembic.op``."""

    def create_table(self, table_name: str, *columns: Any, **kw: Any) -> Any:
        """Create a table."""
        ...

    def create_index(self, index_name: str, table_name: str, columns: Any, **kw: Any) -> Any:
        """Create an index."""
        ...

    def drop_index(self, index_name: str, table_name: str) -> Any:
        """Drop an index."""
        ...

    def drop_table(self, table_name: str) -> Any:
        """Drop a table."""
        ...


def create_outbox_table(op: MigrationOperations) -> None:
    """Create ``event_outbox`` with its eleven columns and three indexes, as `EventOutbox` describes them.

    Args:
        op: ``alembic.op``, inside ``upgrade()``.
    """
    table = EventOutbox.__table__
    assert isinstance(table, sa.Table)  # noqa: S101  # for the type checker: no service maps it to a selectable
    op.create_table(
        table.name,
        *(_column_as_it_is(column) for column in table.columns),
        sa.PrimaryKeyConstraint("id"),
        comment=table.comment,
    )
    for index in _indexes(table):
        op.create_index(
            str(index.name),
            table.name,
            [column.name for column in index.columns],
            postgresql_where=index.dialect_options["postgresql"]["where"],
        )


def drop_outbox_table(op: MigrationOperations) -> None:
    """Drop the indexes, then the table, and with it every event that has not left.

    Args:
        op: ``alembic.op``, inside ``downgrade()``.
    """
    table = EventOutbox.__table__
    assert isinstance(table, sa.Table)  # noqa: S101  # as above
    for index in reversed(_indexes(table)):
        op.drop_index(str(index.name), table_name=table.name)
    op.drop_table(table.name)


def create_audit_table(op: MigrationOperations) -> None:
    """Create the optional table in which each redrive leaves a record; where it is missing, the log alone has it.

    Args:
        op: ``alembic.op``, inside ``upgrade()``.
    """
    op.create_table(
        _AUDIT_TABLE,
        sa.Column("id", postgresql.UUID(as_uuid=True), nullable=False, comment="Identity of the run"),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("action", sa.String(50), nullable=False, comment="What was done, as redrive:in-place"),
        sa.Column("actor", sa.String(255), nullable=False, comment="Who asked for it"),
        sa.Column("reason", sa.Text(), nullable=False, comment="Why"),
        sa.Column("selection", postgresql.JSON(), nullable=False, comment="What was selected"),
        sa.Column("event_count", sa.Integer(), nullable=False, comment="Events moved, increased batch by batch"),
        sa.PrimaryKeyConstraint("id"),
        comment="Who moved parked events of the outbox, when and why",
    )


def drop_audit_table(op: MigrationOperations) -> None:
    """Drop the audit table.

    Args:
        op: ``alembic.op``, inside ``downgrade()``.
    """
    op.drop_table(_AUDIT_TABLE)


def _column_as_it_is(column: sa.Column[Any]) -> sa.Column[Any]:
    """A copy without the defaults of the Python side and without the key, which a constraint names."""
    return sa.Column(
        column.name, column.type, nullable=column.nullable, server_default=_default_of(column), comment=column.comment
    )


def _default_of(column: sa.Column[Any]) -> Any:
    return getattr(column.server_default, "arg", None)


def _indexes(table: sa.Table) -> list[sa.Index]:
    return sorted(table.indexes, key=lambda index: str(index.name))
