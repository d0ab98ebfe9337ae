"""The records that idempotency keeps in Redis: how they are written, and how a stored text is judged.

``claim`` writes them, ``claiming`` has them judged. Pure: no Redis, no clock. Live keys of running services have
these formats, so they change only by additions that older readers ignore.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

__all__ = [
    "DEFAULT_PROCESSING_TTL_SECONDS",
    "IDEMPOTENCY_STATUS_COMPLETED",
    "IDEMPOTENCY_STATUS_PROCESSING",
    "Standing",
    "Verdict",
    "completed_text",
    "judge",
    "processing_text",
]

DEFAULT_PROCESSING_TTL_SECONDS = 300
"""Age from which a claim counts as left by a dead worker, and life of one that nobody renews."""
IDEMPOTENCY_STATUS_PROCESSING = "processing"
IDEMPOTENCY_STATUS_COMPLETED = "completed"


class Standing(Enum):
    """How an event stands according to what is stored under its key."""

    UNKNOWN = "unknown"
    """Nothing is stored."""
    OURS = "ours"
    """Claimed by the one who asks."""
    IN_PROGRESS = "in progress"
    """Claimed by another, not long ago."""
    STALE = "stale"
    """Claimed by another, too long ago to be alive."""
    COMPLETED = "completed"
    """Processed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A judged text.

    Attributes:
        standing: What is to be done follows from it.
        owner: Who holds or held the claim, as far as it is known.
        age_seconds: Time since the claim was made or renewed; 0 when nothing is claimed.
    """

    standing: Standing
    owner: str | None = None
    age_seconds: float = 0.0


def judge(stored: str | None, *, now: float, token: str) -> Verdict:
    """Judge what is stored under a key.

    A text in an unknown format was written by an older release after it had processed the event,
    so it counts as completed, as does a record without status or with one unknown to us.

    Args:
        stored: The text, or ``None`` when there is no key.
        now: Seconds since the epoch.
        token: Owner token of the one who asks.
    """
    if stored is None:
        return Verdict(standing=Standing.UNKNOWN)
    record = _as_record(stored)
    owner = _text(record.get("owner")) or _text(record.get("processed_by"))
    if record.get("status") != IDEMPOTENCY_STATUS_PROCESSING:
        return Verdict(standing=Standing.COMPLETED, owner=owner)
    age = now - _seconds(record.get("started_at"))
    if owner == token:
        return Verdict(standing=Standing.OURS, owner=owner, age_seconds=age)
    standing = Standing.STALE if age > DEFAULT_PROCESSING_TTL_SECONDS else Standing.IN_PROGRESS
    return Verdict(standing=standing, owner=owner, age_seconds=age)


def _as_record(stored: str) -> dict[str, Any]:
    try:
        record = json.loads(stored)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _seconds(value: object) -> float:
    # A claim that does not say since when counts as old: a repetition is better than a loss.
    return float(value) if isinstance(value, int | float) else 0.0


def processing_text(about: Mapping[str, Any], *, started_at: float, owner: str | None) -> str:
    """The record of an event that is claimed.

    Args:
        about: The event and its processor.
        started_at: Since when, seconds since the epoch.
        owner: The claim's token, where scripts ask for it; the format is the earlier one without.
    """
    record = {"status": IDEMPOTENCY_STATUS_PROCESSING, "started_at": started_at, **about}
    return _spaced(record) if owner is None else _compact({**record, "owner": owner})


def completed_text(about: Mapping[str, Any], *, started_at: float, completed_at: float, compact: bool) -> str:
    """The record of an event that is processed; ``compact`` where scripts write it."""
    record = {
        "status": IDEMPOTENCY_STATUS_COMPLETED,
        "started_at": started_at,
        **about,
        "completed_at": completed_at,
    }
    return _compact(record) if compact else _spaced(record)


def _compact(record: dict[str, Any]) -> str:
    try:
        return orjson.dumps(record).decode()
    except orjson.JSONEncodeError:  # stricter: a lone surrogate in an id from a body
        return _spaced(record)


def _spaced(record: dict[str, Any]) -> str:
    return json.dumps(record)  # with the spaces that doubles of services may look for
