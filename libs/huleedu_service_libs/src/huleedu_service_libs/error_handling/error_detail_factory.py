"""Makes an `ErrorDetail` out of what is running: time, stack, trace."""

from typing import Any
from uuid import UUID, uuid4

from opentelemetry import trace

from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs._clock import utc_now
from huleedu_service_libs.error_handling._stack import stack_text

__all__ = ["create_error_detail_with_context"]


def create_error_detail_with_context(
    error_code: ErrorCodeType,
    message: str,
    service: str,
    operation: str,
    correlation_id: UUID | None = None,
    details: dict[str, Any] | None = None,
    capture_stack: bool = True,  # noqa: FBT001, FBT002  # the services' signature
) -> ErrorDetail:
    """Describe an error together with the running trace and stack.

    Args:
        error_code: A member of a code enum.
        message: For people.
        service: Where.
        operation: Doing what.
        correlation_id: A new one when missing.
        details: Whatever helps; never a secret.
        capture_stack: Take the active exception's traceback, or the current stack without one, as far
            as `configure_stack_capture` allows.
    """
    span = trace.get_current_span()
    trace_id = span_id = None
    if span.is_recording():
        running = span.get_span_context()
        trace_id, span_id = format(running.trace_id, "032x"), format(running.span_id, "016x")
    return ErrorDetail(
        error_code=error_code,
        message=message,
        correlation_id=correlation_id or uuid4(),
        timestamp=utc_now(),
        service=service,
        operation=operation,
        details=details or {},
        stack_trace=stack_text() if capture_stack else None,
        trace_id=trace_id,
        span_id=span_id,
    )
