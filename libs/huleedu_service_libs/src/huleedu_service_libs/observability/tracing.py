"""W3C trace context: carry it, look at it, and spans around operations.

Uses OpenTelemetry's API alone; an SDK makes the spans real. Without one the
trace id that came in still travels on, through outbox rows and Kafka headers.
The carrier in events is ``envelope.metadata``.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from enum import Enum
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from huleedu_service_libs._redaction import MASK, is_sensitive_name, redact_text
from huleedu_service_libs.observability.current import CORRELATION_ID
from huleedu_service_libs.observability.provider import init_tracing
from huleedu_service_libs.observability.recording import record_exception_once

__all__ = [
    "add_event_to_span",
    "extract_trace_context",
    "get_current_span",
    "get_current_trace_id",
    "get_tracer",
    "init_tracing",
    "inject_trace_context",
    "is_within_trace",
    "trace_operation",
    "use_trace_context",
]

_PROPAGATOR = TraceContextTextMapPropagator()
_TRACE_ID = slice(3, 35)  # in 00-TRACEID-SPANID-FLAGS


def get_tracer(service_name: str) -> Tracer:
    """A tracer of the provider that is global at this moment."""
    return trace.get_tracer(service_name)


def inject_trace_context(carrier: MutableMapping[str, Any]) -> None:
    """Write ``traceparent`` (and ``tracestate``) of the current context into ``carrier``."""
    _PROPAGATOR.inject(carrier)


def extract_trace_context(carrier: MutableMapping[str, Any]) -> Context:
    """The context that ``carrier`` holds; the current one when it holds none that is valid."""
    usable = {name: value for name, value in carrier.items() if isinstance(value, str)}
    return _PROPAGATOR.extract(usable)


def is_within_trace(carrier: Mapping[str, Any]) -> bool:
    """Whether the current span belongs to the trace that ``carrier`` holds: nothing need be made current then."""
    given = carrier.get("traceparent")
    return isinstance(given, str) and given[_TRACE_ID] == get_current_trace_id()


@contextmanager
def use_trace_context(carrier: MutableMapping[str, Any]) -> Iterator[None]:
    """Make the context of ``carrier`` current inside the block."""
    token = otel_context.attach(extract_trace_context(carrier))
    try:
        yield
    finally:
        otel_context.detach(token)


@contextmanager
def trace_operation(tracer: Tracer, operation_name: str, attributes: dict[str, Any] | None = None) -> Iterator[Span]:
    """Run the block in a span.

    Args:
        tracer: Where the span is made.
        operation_name: The span's name.
        attributes: Numbers and truth values are stored as they are, anything else as text without secrets,
            ``None`` as the empty string. Inside a request its ``correlation_id`` is added.

    Raises:
        Exception: Whatever the block raises, after it was recorded, unless an inner span has done so.
    """
    given = {name: _attribute(name, value) for name, value in (attributes or {}).items()}
    running = CORRELATION_ID.get()
    if running is not None:
        given.setdefault("correlation_id", running)
    with tracer.start_as_current_span(
        operation_name, attributes=given, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except Exception as error:
            record_exception_once(span, error)
            span.set_attribute("error", True)  # noqa: FBT003  # OpenTelemetry's signature
            span.set_attribute("error.type", type(error).__name__)
            raise


def _attribute(name: str, value: Any) -> str | bool | int | float:
    if is_sensitive_name(name, value):
        return MASK
    if isinstance(value, bool | int | float) and not isinstance(value, Enum):
        return value
    return "" if value is None else redact_text(str(value))


def get_current_span() -> Span | None:
    """The span that is recording now, or ``None``."""
    span = trace.get_current_span()
    return span if span.is_recording() else None


def get_current_trace_id() -> str | None:
    """The 32 hex digits of the current trace, recorded here or only passed on, or ``None``."""
    span_context = trace.get_current_span().get_span_context()
    return format(span_context.trace_id, "032x") if span_context.is_valid else None


def add_event_to_span(event_name: str, attributes: dict[str, Any] | None = None) -> None:
    """Add an event to the current span, if one is recording; otherwise nothing happens.

    Args:
        event_name: What happened.
        attributes: Values of the kinds that OpenTelemetry takes: text, numbers, booleans, lists of one of them.
    """
    span = get_current_span()
    if span is not None:
        span.add_event(event_name, attributes)
