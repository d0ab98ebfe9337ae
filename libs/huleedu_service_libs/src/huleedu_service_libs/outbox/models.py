"""The table ``event_outbox``.

`Base` is a declarative base of its own: every service maps its own class to
the same table name in its own metadata, and the two must not meet.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Index, Integer, String, Text, func, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from huleedu_service_libs._ids import uuid7

__all__ = ["Base", "EventOutbox"]


class _now_at_insert(FunctionElement[datetime]):  # noqa: N801  # named like the function that it is
    """The database's clock, not the start of the transaction."""

    type = DateTime(timezone=True)
    inherit_cache = True


@compiles(_now_at_insert)
def _compile_for_others(*_: Any, **__: Any) -> str:
    return "CURRENT_TIMESTAMP"  # services' unit tests may run on another database


@compiles(_now_at_insert, "postgresql")
def _compile_for_postgresql(*_: Any, **__: Any) -> str:
    return "clock_timestamp()"


class Base(DeclarativeBase):
    """Declarative base of the outbox table alone."""


class EventOutbox(Base):
    """One event that waits for the relay, or that it has published.

    Rows sort by ``created_at`` and then ``id`` in the order in which they were added: the time is
    the database's clock at the INSERT (not the start of the transaction, which a transaction that
    waited for a lock had long ago), the id is time-ordered.
    """

    __tablename__ = "event_outbox"

    id: Mapped[UUID] = mapped_column(
        PG_UUID(as_uuid=True), primary_key=True, default=uuid7, comment="Identity of the row; time-ordered"
    )
    aggregate_id: Mapped[str] = mapped_column(String(255), nullable=False, comment="What the event is about")
    aggregate_type: Mapped[str] = mapped_column(String(100), nullable=False, comment="Of which kind that is")
    event_type: Mapped[str] = mapped_column(String(255), nullable=False, comment="Name and version of the event")
    event_data: Mapped[dict[str, Any]] = mapped_column(
        JSON, nullable=False, comment="The envelope, with topic and headers"
    )
    event_key: Mapped[str | None] = mapped_column(
        String(255), nullable=True, comment="Partition key; aggregate_id without one"
    )
    topic: Mapped[str] = mapped_column(String(255), nullable=False, comment="Kafka topic")
    created_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True),
        nullable=False,
        default=_now_at_insert(),
        server_default=func.now(),
        comment="When it was added, on the database's clock",
    )
    published_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True),
        nullable=True,
        comment="When the broker had acknowledged it; NULL while it waits or is parked",
    )
    retry_count: Mapped[int] = mapped_column(
        Integer,
        nullable=False,
        default=0,
        server_default=text("0"),
        comment="Attempts that failed for reasons of the event",
    )
    last_error: Mapped[str | None] = mapped_column(Text, nullable=True, comment="The last of those reasons")

    __table_args__ = (
        Index(
            "ix_event_outbox_unpublished",
            "published_at",
            "created_at",
            postgresql_where=text("published_at IS NULL"),
        ),
        Index("ix_event_outbox_aggregate", "aggregate_type", "aggregate_id"),
        Index("ix_event_outbox_event_type", "event_type"),
        {"comment": "Events that wait for the relay or that it has published"},
    )
