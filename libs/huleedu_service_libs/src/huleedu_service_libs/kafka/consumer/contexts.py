"""What is current while an event is handled: its fields on every log line, and its trace. `Handling` uses it."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs.kafka.consumer.ports import Delivery
from huleedu_service_libs.observability import get_tracer, use_trace_context
from huleedu_service_libs.observability.messaging import CONVERSATION, process_span, spans_are_recorded

__all__ = ["NO_SPAN", "Contexts", "log_fields"]

NO_SPAN = nullcontext()
"""What an event without a trace runs in, while no spans are recorded."""

_TRACE_HEADERS = ("traceparent", "tracestate")


class Contexts:
    """Makes the traces of one consumer's events current.

    Args:
        group_id: The consumer group.
        clock: Monotonic seconds.
    """

    def __init__(self, group_id: str, *, clock: _clock.Clock) -> None:
        self._group_id = group_id
        self._clock = clock
        self._tracer = get_tracer("huleedu_service_libs.consumer")
        self._spans = False
        self._ask_for_spans_at = float("-inf")

    def span(self, delivery: Delivery[Any]) -> AbstractContextManager[Any]:
        """A span of kind consumer, or only the event's own trace where no spans are recorded."""
        carrier = _carrier(delivery)
        if self._records_spans():
            return process_span(self._tracer, delivery.record.topic, carrier, self._attributes(delivery))
        return use_trace_context(carrier) if carrier else NO_SPAN

    def _records_spans(self) -> bool:
        """Asked anew each second: the answer costs OpenTelemetry a look at the environment."""
        now = self._clock()
        if not self._spans and now >= self._ask_for_spans_at:
            self._spans, self._ask_for_spans_at = spans_are_recorded(), now + 1.0
        return self._spans

    def _attributes(self, delivery: Delivery[Any]) -> dict[str, str | int]:
        record, envelope = delivery.record, delivery.envelope
        return {
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._group_id,
            "messaging.message.id": str(envelope.event_id),
            CONVERSATION: str(envelope.correlation_id),
            "huleedu.event_type": envelope.event_type,
        }


def log_fields(delivery: Delivery[Any]) -> dict[str, str]:
    """The event's identity, for log lines."""
    envelope = delivery.envelope
    return {
        "event_id": str(envelope.event_id),
        "correlation_id": str(envelope.correlation_id),
        "event_type": envelope.event_type,
        "source_service": envelope.source_service,
    }


def _carrier(delivery: Delivery[Any]) -> dict[str, Any]:
    """The trace context of the headers, else of the envelope."""
    headers = {}
    for name, value in delivery.record.headers or ():
        if name in _TRACE_HEADERS and isinstance(value, bytes):
            headers[name] = value.decode("ascii", "replace")
    return headers if "traceparent" in headers else (delivery.envelope.metadata or {})
