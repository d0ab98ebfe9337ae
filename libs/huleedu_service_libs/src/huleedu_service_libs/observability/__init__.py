"""Traces: set-up, W3C context propagation and spans around operations and messages."""

from huleedu_service_libs.observability.provider import flush_tracing, shutdown_tracing
from huleedu_service_libs.observability.settings import TracingSettings
from huleedu_service_libs.observability.tracing import (
    add_event_to_span,
    extract_trace_context,
    get_current_span,
    get_current_trace_id,
    get_tracer,
    init_tracing,
    inject_trace_context,
    is_within_trace,
    trace_operation,
    use_trace_context,
)

__all__ = [
    "TracingSettings",
    "add_event_to_span",
    "extract_trace_context",
    "flush_tracing",
    "get_current_span",
    "get_current_trace_id",
    "get_tracer",
    "init_tracing",
    "inject_trace_context",
    "is_within_trace",
    "shutdown_tracing",
    "trace_operation",
    "use_trace_context",
]
