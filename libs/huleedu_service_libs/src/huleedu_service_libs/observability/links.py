"""A span for many operations at once, linked to the traces that asked for them.

The outbox relay uses it: a batch belongs to no single trace. Knows carriers, no events.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

__all__ = ["MOST_LINKS", "linked_span"]

MOST_LINKS = 128  # of one span, by the OpenTelemetry specification's default limit

_PROPAGATOR = TraceContextTextMapPropagator()


@contextmanager
def linked_span(
    tracer: Tracer,
    name: str,
    carriers: Callable[[], Iterable[Mapping[str, str]]],
    attributes: Mapping[str, str | int],
) -> Iterator[Span]:
    """Run the block in a span with links.

    Args:
        tracer: Where the span is made.
        name: The span's name.
        carriers: Trace contexts (``traceparent``, ``tracestate``), asked for only when the span is recorded;
            `MOST_LINKS` different ones are linked.
        attributes: As they are.
    """
    with tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=dict(attributes)) as span:
        if span.is_recording():
            for linked in _span_contexts(carriers()):
                span.add_link(linked)
        yield span


def _span_contexts(carriers: Iterable[Mapping[str, Any]]) -> list[SpanContext]:
    found: dict[tuple[int, int], SpanContext] = {}
    for carrier in carriers:
        one = trace.get_current_span(_PROPAGATOR.extract(carrier, Context())).get_span_context()
        if one.is_valid:
            found.setdefault((one.trace_id, one.span_id), one)
        if len(found) >= MOST_LINKS:
            break
    return list(found.values())
