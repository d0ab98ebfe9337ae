"""The table of *intake*, and what a request must look like."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from sqlalchemy import DateTime, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from essay_pipeline.contracts import LEAST_CHARACTERS, MOST_CHARACTERS, Language

__all__ = ["Base", "Essay", "EssayRequest"]


class Base(DeclarativeBase):
    """Declarative base of this service."""


class Essay(Base):
    """One essay as it came in."""

    __tablename__ = "essays"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[str] = mapped_column(String(100), index=True)
    title: Mapped[str] = mapped_column(String(200))
    language: Mapped[str] = mapped_column(String(2))
    text: Mapped[str] = mapped_column(Text)
    correlation_id: Mapped[UUID]
    received_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain the character NUL, which PostgreSQL cannot store")
    return text


class EssayRequest(BaseModel):
    """Body of ``POST /v1/essays``.

    Attributes:
        title: For people.
        language: ``en`` or ``sv``.
        text: What to check; kept as it is, since misspellings are found by their place in it.
    """

    model_config = ConfigDict(extra="forbid")

    title: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(_storable)
    ]
    language: Language
    text: Annotated[
        str, StringConstraints(min_length=LEAST_CHARACTERS, max_length=MOST_CHARACTERS), AfterValidator(_storable)
    ]
