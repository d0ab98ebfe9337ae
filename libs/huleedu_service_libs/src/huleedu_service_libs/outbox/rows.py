"""A row as a batch holds it: what the database sent, and its payload decoded when somebody asks."""

import json
from datetime import datetime
from functools import cached_property
from math import isinf
from typing import Any, NamedTuple
from uuid import UUID

__all__ = ["Row"]


class _Columns(NamedTuple):
    id: UUID
    aggregate_id: str
    aggregate_type: str
    event_type: str
    stored_text: str
    event_key: str | None
    topic: str
    created_at: datetime
    published_at: datetime | None
    retry_count: int
    last_error: str | None
    age_seconds: float


class Row(_Columns):
    """A row of a batch; see `OutboxEvent`.

    Attributes:
        stored_text: The payload as the table has it.
        age_seconds: How long ago it was added when it was read, both on the database's clock.
    """

    @cached_property
    def event_data(self) -> dict[str, Any]:
        """The stored payload, decoded when it is asked for: one that cannot be is the fault of its row alone."""
        payload: dict[str, Any] = json.loads(self.stored_text, parse_float=_double)
        return payload


def _double(text: str) -> float:
    """A number, where a double has it; infinity would leave as ``null``."""
    number = float(text)
    if isinf(number):
        raise ValueError(f"The number {text[:40]} in the payload is beyond a double: store it as text")
    return number
