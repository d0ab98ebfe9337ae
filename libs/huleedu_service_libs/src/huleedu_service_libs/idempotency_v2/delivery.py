"""What is known of one delivery, and how it is told: log fields, counters, context.

``claiming``, ``consumer`` and ``keeping`` hand it on. Decides nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter

from huleedu_service_libs import _metrics
from huleedu_service_libs.idempotency_v2.claim import Claim
from huleedu_service_libs.idempotency_v2.identity import EventIdentity
from huleedu_service_libs.logging_utils import event_log_context
from huleedu_service_libs.observability import get_tracer, is_within_trace, use_trace_context
from huleedu_service_libs.observability.messaging import CONVERSATION, is_processing, process_span, spans_are_recorded

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
        self._outcomes: dict[str, Counter] = {}  # looked up once: at each event it costs as much as its key

    def outcome(self, outcome: str) -> None:
        """A delivery ended so."""
        found = self._outcomes.get(outcome)
        if found is None:
            found = self._outcomes[outcome] = _EVENTS.labels(service=self._service, outcome=outcome)
        found.inc()

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
def context_of(identity: EventIdentity, msg: Any = None) -> Iterator[None]:
    """Put the event's identity on every line logged inside, and run in a span of its trace.

    Args:
        identity: Of the event.
        msg: The message; its place stands on the span. A runner that has made the span already makes it the only one.
    """
    lines = event_log_context(
        identity.event_id,
        correlation_id=identity.correlation_id,
        event_type=identity.event_type,
        source_service=identity.source_service,
    )
    with lines, _span_of(identity, msg):
        yield


def _span_of(identity: EventIdentity, msg: Any) -> AbstractContextManager[Any]:
    carrier, topic = identity.trace_carrier, getattr(msg, "topic", None)
    if isinstance(topic, str) and spans_are_recorded():
        attributes = _span_attributes(identity, msg)
        if is_processing(topic, attributes):
            return nullcontext()
        return process_span(get_tracer("huleedu_service_libs.consumer"), topic, carrier, attributes)
    return nullcontext() if is_within_trace(carrier) else use_trace_context(carrier)


def _span_attributes(identity: EventIdentity, msg: Any) -> dict[str, str | int]:
    found: dict[str, str | int] = {"huleedu.event_type": identity.event_type}
    partition, offset = getattr(msg, "partition", None), getattr(msg, "offset", None)
    if isinstance(partition, int):
        found["messaging.destination.partition.id"] = str(partition)
    if isinstance(offset, int):
        found["messaging.kafka.offset"] = offset
    if identity.event_id is not None:
        found["messaging.message.id"] = identity.event_id
    if identity.correlation_id is not None:
        found[CONVERSATION] = identity.correlation_id
    return found
