"""A span for one message that is processed, in the trace of whoever sent it.

Consumers use it. Names and attributes follow OpenTelemetry's messaging
conventions (https://opentelemetry.io/docs/specs/semconv/messaging/, not yet stable).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Tracer

from huleedu_service_libs.observability.recording import record_exception_once
from huleedu_service_libs.observability.tracing import extract_trace_context

__all__ = ["process_span"]


@contextmanager
def process_span(
    tracer: Tracer, topic: str, carrier: Mapping[str, Any], attributes: Mapping[str, str | int]
) -> Iterator[Span]:
    """Run the block in a span of kind consumer, child of the span that the message carries.

    Without an SDK nothing is recorded, and the message's own trace is current in the block.

    Args:
        tracer: Where the span is made.
        topic: Where the message came from; part of the name.
        carrier: W3C trace context of the message; without one a new trace begins.
        attributes: Of the span.

    Raises:
        Exception: Whatever the block raises, after it was recorded, unless an inner span has done so.
    """
    context = extract_trace_context(dict(carrier)) if carrier else None
    span = tracer.start_span(f"process {topic}", context=context, kind=SpanKind.CONSUMER, attributes=dict(attributes))
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            record_exception_once(span, error)
            span.set_attribute("error.type", type(error).__name__)
            raise
