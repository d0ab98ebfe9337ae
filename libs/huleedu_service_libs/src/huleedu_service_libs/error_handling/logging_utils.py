"""An error as flat fields for a log line, and the one line that an edge writes about it."""

from typing import Any

from common_core.models.error_models import ErrorDetail
from huleedu_service_libs._ids import correlation_uuid
from huleedu_service_libs._plain import flat_entries, plain_text
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.logging_utils import current_log_context
from huleedu_service_libs.observability.recording import claim_log

__all__ = ["format_error_for_logging", "log_error_once", "log_failure_once"]

_FAULT = 500


def format_error_for_logging(error_detail: ErrorDetail) -> dict[str, Any]:
    """Flat, redacted fields: ``error.*``, ``correlation_id``, and ``trace.id`` and ``span.id`` when known."""
    fields: dict[str, Any] = {
        "error.code": error_detail.error_code.value,
        "error.message": plain_text(error_detail.message),
        "error.service": error_detail.service,
        "error.operation": error_detail.operation,
        "error.timestamp": error_detail.timestamp.isoformat(),
        "correlation_id": str(error_detail.correlation_id),
    }
    if error_detail.trace_id:
        fields["trace.id"] = error_detail.trace_id
    if error_detail.span_id:
        fields["span.id"] = error_detail.span_id
    fields.update({f"error.details.{key}": shown for key, shown in flat_entries(error_detail.details).items()})
    return fields


def log_error_once(logger: Any, error: BaseException, status: int, detail: ErrorDetail) -> None:
    """Log what is about to be answered, unless an inner layer has logged this error.

    Faults of ours (5xx) at error with the traceback, refusals at info without.

    Args:
        logger: From `create_service_logger`.
        error: What was raised.
        status: What is answered.
        detail: What is known of it.
    """
    if not claim_log(error):
        return
    fields = {**_fields(detail), "status": status, "error_type": type(error).__name__}
    if status < _FAULT:
        logger.info("request_refused", **fields)
    else:
        logger.error("request_failed", **fields, exc_info=error)


def log_failure_once(logger: Any, event: str, error: BaseException, **fields: Any) -> None:
    """Log ``error`` at error with its traceback, unless an inner layer has; for consumers and jobs.

    Args:
        logger: Where to.
        event: The line's event.
        error: What was caught. Of a `HuleEduError` code, place and details become fields.
        fields: Further fields; they win.
    """
    if claim_log(error):
        known = _fields(error.error_detail) if isinstance(error, HuleEduError) else {}
        logger.error(event, **{**known, **fields}, exc_info=error)


def _fields(detail: ErrorDetail) -> dict[str, Any]:
    fields = format_error_for_logging(detail)
    running = current_log_context().get("correlation_id")
    if running and correlation_uuid(str(running)) == detail.correlation_id:
        fields["correlation_id"] = running  # as the client sent it, rather than the UUID that was made from it
    return fields
