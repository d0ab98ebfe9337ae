"""What is known of one delivery, and how it is told: log fields, counters, context.

``consumer`` uses it. Decides nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs import _metrics
from huleedu_service_libs.idempotency_v2.claim import Claim
from huleedu_service_libs.idempotency_v2.identity import EventIdentity
from huleedu_service_libs.logging_utils import log_context
from huleedu_service_libs.observability import is_within_trace, use_trace_context

__all__ = ["Delivery", "Tally", "context_of", "coordinates", "position"]

_SHOWN_DIGEST_DIGITS = 16

_EVENTS = _metrics.counter(
    "idempotency_events_total", "Deliveries by what idempotency made of them", ("service", "outcome")
)
_FAIL_OPEN = _metrics.counter(
    "idempotency_fail_open_total", "Deliveries processed without protection", ("service", "reason")
)
_ERRORS = _metrics.counter(
    "idempotency_errors_total",
    "Claims that could not be renewed, confirmed, released or asked for their owner",
    ("service", "kind"),
)


class Tally:
    """Counts what becomes of a service's deliveries.

    Args:
        service: Label of the metrics.
    """

    def __init__(self, service: str) -> None:
        self._service = service

    def outcome(self, outcome: str) -> None:
        """A delivery ended so."""
        _EVENTS.labels(service=self._service, outcome=outcome).inc()

    def error(self, kind: str) -> None:
        """A claim could not be kept as it should."""
        _ERRORS.labels(service=self._service, kind=kind).inc()

    def fail_open(self, reason: str) -> None:
        """A delivery is processed without protection."""
        self.outcome("fail_open")
        _FAIL_OPEN.labels(service=self._service, reason=reason).inc()


@dataclass(slots=True, kw_only=True)
class Delivery:
    """One message on its way through, and what log lines say of it."""

    msg: Any
    identity: EventIdentity
    claim: Claim
    service: str

    def fields(self, action: str, **more: Any) -> dict[str, Any]:
        """Fields of a log line: the event, its key, the message's place, and what is done about it."""
        identity = self.identity
        return {
            "service": self.service,
            "event_type": identity.event_type,
            "event_id": identity.event_id,
            "correlation_id": identity.correlation_id,
            "source_service": identity.source_service,
            "deterministic_hash": identity.digest[:_SHOWN_DIGEST_DIGITS],
            "redis_key": self.claim.key,
            "headers_used": not identity.body_parsed,
            "json_parsed": identity.body_parsed,
            "action": action,
            **position(self.msg),
            **more,
        }


def position(msg: Any) -> dict[str, Any]:
    """Where the message stands in Kafka."""
    return {f"kafka_{name}": getattr(msg, name, None) for name in ("topic", "partition", "offset")}


def coordinates(msg: Any) -> dict[str, Any]:
    """The same for an error's context."""
    return {name: getattr(msg, name) for name in ("topic", "partition", "offset") if hasattr(msg, name)}


@contextmanager
def context_of(identity: EventIdentity) -> Iterator[None]:
    """Make the event's trace current, unless a span of it is, and put its identity on every line logged inside."""
    known = {
        "correlation_id": identity.correlation_id,
        "event_id": identity.event_id,
        "event_type": identity.event_type,
        "source_service": identity.source_service,
    }
    trace = nullcontext() if is_within_trace(identity.trace_carrier) else use_trace_context(identity.trace_carrier)
    with log_context(**{name: value for name, value in known.items() if value is not None}), trace:
        yield
