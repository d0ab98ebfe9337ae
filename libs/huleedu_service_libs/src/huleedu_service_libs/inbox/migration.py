"""The inbox' table, made inside a service's Alembic revision.

    def upgrade() -> None:
        create_inbox_table(op)

Needs no Alembic of its own: ``op`` is handed in.
"""

from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from huleedu_service_libs.inbox.config import CONSUMER_LENGTH

__all__ = ["create_inbox_table", "drop_inbox_table"]


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


def create_inbox_table(op: MigrationOperations) -> None:
    """Create ``event_inbox`` and its index, as `InboxRecord` describes them.

    Spelled out here, so that a revision does not change when the library does.

    Args:
        op: ``alembic.op``, inside ``upgrade()``.
    """
    op.create_table(
        "event_inbox",
        sa.Column("consumer", sa.String(CONSUMER_LENGTH), nullable=False),
        sa.Column("event_id", postgresql.UUID(as_uuid=True), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("payload_hash", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("consumer", "event_id"),
    )
    op.create_index("ix_event_inbox_processed_at", "event_inbox", ["processed_at"])


def drop_inbox_table(op: MigrationOperations) -> None:
    """Drop the table, and with it the knowledge of what was processed.

    Args:
        op: ``alembic.op``, inside ``downgrade()``.
    """
    op.drop_index("ix_event_inbox_processed_at", table_name="event_inbox")
    op.drop_table("event_inbox")
