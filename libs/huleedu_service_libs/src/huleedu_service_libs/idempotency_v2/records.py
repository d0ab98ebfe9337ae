"""What idempotency keeps in Redis: key, records, times to live, and how a stored text is judged.

Pure: no Redis, no clock. Live keys of running services have these formats, so
they change only by additions that older readers ignore.
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from huleedu_service_libs._checks import positive
from huleedu_service_libs.store_policy import StoreDownPolicy, check_store_down_policy

__all__ = [
    "DEFAULT_EVENT_TYPE_TTLS",
    "DEFAULT_PROCESSING_TTL_SECONDS",
    "DEFAULT_TTL_SECONDS",
    "DEFAULT_WAIT_TIMEOUT_SECONDS",
    "IDEMPOTENCY_STATUS_COMPLETED",
    "IDEMPOTENCY_STATUS_PROCESSING",
    "IdempotencyConfig",
    "InProgressPolicy",
    "Standing",
    "UnconfirmedPolicy",
    "Verdict",
    "judge",
]

DEFAULT_TTL_SECONDS = 86400
DEFAULT_PROCESSING_TTL_SECONDS = 300
DEFAULT_WAIT_TIMEOUT_SECONDS = 60.0
IDEMPOTENCY_STATUS_PROCESSING = "processing"
IDEMPOTENCY_STATUS_COMPLETED = "completed"

_HOUR = 3600
DEFAULT_EVENT_TYPE_TTLS: dict[str, int] = {
    "huleedu.essay.spellcheck.requested.v1": _HOUR,
    "huleedu.essay.spellcheck.completed.v1": _HOUR,
    "huleedu.file.essay.content.provisioned.v1": _HOUR,
    "huleedu.file.essay.validation.failed.v1": _HOUR,
    "huleedu.batch.essays.registered.v1": 12 * _HOUR,
    "huleedu.els.batch.essays.ready.v1": 12 * _HOUR,
    "huleedu.els.batch.phase.outcome.v1": 12 * _HOUR,
    "huleedu.cj_assessment.completed.v1": 24 * _HOUR,
    "huleedu.batch.cj_assessment.initiate.command.v1": 24 * _HOUR,
    "huleedu.batch.spellcheck.initiate.command.v1": 24 * _HOUR,
    "huleedu.result_aggregator.batch.completed.v1": 72 * _HOUR,
    "huleedu.result_aggregator.class.summary.updated.v1": 72 * _HOUR,
}
"""Seconds for which a processed event is remembered, for each event type."""

InProgressPolicy = Literal["skip", "wait", "raise"]
_POLICIES = ("skip", "wait", "raise")

UnconfirmedPolicy = Literal["keep", "release"]
_UNCONFIRMED = ("keep", "release")
_SHORTEST_PROCESSING_TTL = 2


class IdempotencyConfig:
    """How one service recognises events that it has processed.

    Args:
        service_name: Part of every key: services process the same event independently.
        event_type_ttls: Seconds for which a processed event is remembered, by event type;
            replaces the default table as a whole.
        default_ttl: Seconds for all other event types.
        key_prefix: First part of every key.
        enable_debug_logging: Log the undisturbed course of each event as well, at debug.
        in_progress: What becomes of an event that another worker is processing. ``skip`` returns
            ``None``, as for a duplicate: if the other then dies, the event is lost once the
            offset is committed. ``wait`` waits for the other's outcome, and ``raise`` raises
            `EventInProgressError` at once, so that the consumer does not commit.
        wait_timeout_seconds: How long ``wait`` waits before it raises `EventInProgressError`.
        store_down: What becomes of an event while Redis does not answer. ``process`` runs the handler
            unprotected; ``pause`` and ``dead-letter`` raise `StoreDownError`, and the handler does not run.
        unconfirmed: What becomes of the claim of a handler that returns without confirming. ``keep``
            leaves it for ``processing_ttl``, ``release`` gives the event back at once, so that the next delivery runs.
        processing_ttl: Seconds after which the claim of a worker that has died is free: so long its event waits.
            Three times in it the claim of a running handler is renewed; a process whose event loop stands still for
            longer loses its claims. Clients that cannot run scripts cannot renew: with them it is 300 s.

    Raises:
        ValueError: Unknown ``in_progress``, ``store_down`` or ``unconfirmed``, a time that is not positive, or a
            ``processing_ttl`` that is no whole number from 2 to 300.
    """

    def __init__(
        self,
        service_name: str,
        event_type_ttls: dict[str, int] | None = None,
        default_ttl: int = DEFAULT_TTL_SECONDS,
        key_prefix: str = "huleedu:idempotency:v2",
        enable_debug_logging: bool = False,  # noqa: FBT001, FBT002  # the services' signature
        *,
        in_progress: InProgressPolicy = "skip",
        wait_timeout_seconds: float = DEFAULT_WAIT_TIMEOUT_SECONDS,
        store_down: StoreDownPolicy = "process",
        unconfirmed: UnconfirmedPolicy = "keep",
        processing_ttl: int = DEFAULT_PROCESSING_TTL_SECONDS,
    ) -> None:
        if in_progress not in _POLICIES:
            raise ValueError(f"in_progress must be one of {', '.join(_POLICIES)}, got {in_progress!r}")
        check_store_down_policy(store_down)
        if unconfirmed not in _UNCONFIRMED:
            raise ValueError(f"unconfirmed must be one of {', '.join(_UNCONFIRMED)}, got {unconfirmed!r}")
        positive(wait_timeout_seconds=wait_timeout_seconds)
        if not isinstance(processing_ttl, int):  # Redis would refuse it, and every event run unprotected
            raise ValueError(f"processing_ttl must be whole seconds, got {processing_ttl!r}")  # noqa: TRY004  # as for all values
        if not _SHORTEST_PROCESSING_TTL <= processing_ttl <= DEFAULT_PROCESSING_TTL_SECONDS:
            raise ValueError(
                f"processing_ttl must be from {_SHORTEST_PROCESSING_TTL} to {DEFAULT_PROCESSING_TTL_SECONDS} s, got "
                f"{processing_ttl!r}: readers of other releases take a claim of {DEFAULT_PROCESSING_TTL_SECONDS} s for dead"
            )
        self.service_name = service_name
        self.event_type_ttls = event_type_ttls or dict(DEFAULT_EVENT_TYPE_TTLS)
        self.default_ttl = default_ttl
        self.key_prefix = key_prefix
        self.enable_debug_logging = enable_debug_logging
        self.in_progress: InProgressPolicy = in_progress
        self.wait_timeout_seconds = wait_timeout_seconds
        self.store_down: StoreDownPolicy = store_down
        self.unconfirmed: UnconfirmedPolicy = unconfirmed
        self.processing_ttl = processing_ttl

    def get_ttl_for_event_type(self, event_type: str) -> int:
        """Seconds for which a processed event of this type is remembered."""
        return self.event_type_ttls.get(event_type, self.default_ttl)

    def generate_redis_key(self, event_type: str, event_id: str, deterministic_hash: str) -> str:  # noqa: ARG002  # the services' signature
        """The key of an event; ``event_id`` has no influence, the hash stands for it."""
        return f"{self.key_prefix}:{self.service_name}:{event_type.replace('.', '_')}:{deterministic_hash}"

    def __repr__(self) -> str:
        return f"IdempotencyConfig(service_name={self.service_name!r}, in_progress={self.in_progress!r})"


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
