"""The table ``event_inbox``: one small row for each event that a consumer has processed.

`Base` is a declarative base of its own, as the outbox has one: a service's
metadata and this one do not meet.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, Index, LargeBinary, String, func
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from huleedu_service_libs.inbox.config import CONSUMER_LENGTH

__all__ = ["Base", "InboxRecord"]


class Base(DeclarativeBase):
    """Declarative base of the inbox table alone."""


class InboxRecord(Base):
    """One event that one consumer has processed, committed together with what the handler did."""

    __tablename__ = "event_inbox"

    consumer: Mapped[str] = mapped_column(String(CONSUMER_LENGTH), primary_key=True)
    event_id: Mapped[UUID] = mapped_column(PG_UUID(as_uuid=True), primary_key=True)
    processed_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), nullable=False, server_default=func.now())
    payload_hash: Mapped[bytes | None] = mapped_column(LargeBinary, nullable=True)

    __table_args__ = (Index("ix_event_inbox_processed_at", "processed_at"),)
