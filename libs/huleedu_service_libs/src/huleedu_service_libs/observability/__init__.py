"""Traces: W3C context propagation and spans around operations."""

from huleedu_service_libs.observability.tracing import (
    add_event_to_span,
    extract_trace_context,
    get_current_span,
    get_current_trace_id,
    get_tracer,
    inject_trace_context,
    is_within_trace,
    trace_operation,
    use_trace_context,
)

__all__ = [
    "add_event_to_span",
    "extract_trace_context",
    "get_current_span",
    "get_current_trace_id",
    "get_tracer",
    "inject_trace_context",
    "is_within_trace",
    "trace_operation",
    "use_trace_context",
]
