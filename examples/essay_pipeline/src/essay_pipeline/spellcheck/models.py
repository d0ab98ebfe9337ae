"""The tables of *spellcheck*."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, DateTime, Integer, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "SpellcheckResult", "SpellcheckRun"]


class Base(DeclarativeBase):
    """Declarative base of this service."""


class SpellcheckResult(Base):
    """What was found in one essay. The key makes a second result impossible."""

    __tablename__ = "spellcheck_results"

    essay_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100))
    language: Mapped[str] = mapped_column(String(2))
    word_count: Mapped[int] = mapped_column(Integer)
    misspellings: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    checked_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class SpellcheckRun(Base):
    """One run of the handler that reached its commit, the first for its essay or not.

    Without duplicates getting through there is exactly one row an essay: that is what the demo
    and the tests look at.
    """

    __tablename__ = "spellcheck_runs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    essay_id: Mapped[UUID] = mapped_column(index=True)
    event_id: Mapped[UUID]
    was_first: Mapped[bool]
    ran_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
