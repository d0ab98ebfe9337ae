"""An exception is recorded once on its way out, not by every layer that it passes."""

import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from huleedu_service_libs._redaction import redact_within

__all__ = ["claim_log", "record_exception_once"]

_ON_SPAN = "_huleedu_on_span"
_IN_LOG = "_huleedu_in_log"
_TEXT = 8_192  # characters
_STACK = 65_536


def record_exception_once(span: Span, error: BaseException, attributes: Mapping[str, str] | None = None) -> bool:
    """Record ``error`` on ``span`` unless an inner layer has recorded it already; without secrets.

    In either case the span is marked as failed. A description that it has already stays.

    Args:
        span: The recording span.
        error: What passes.
        attributes: Of the event, over those that are taken from the error itself; redacted likewise.

    Returns:
        Whether it was recorded now.
    """
    _mark_failed(span, error)
    if not _claim(error, _ON_SPAN):
        return False
    texts = {"exception.message": _text(error), "exception.stacktrace": _stack(error), **(attributes or {})}
    safe = {name: redact_within(text, _STACK) for name, text in texts.items()}
    try:
        span.record_exception(error, attributes=safe)
    except Exception:  # noqa: BLE001  # OpenTelemetry asks the error for its text, and that is the error's own code
        span.add_event("exception", {"exception.type": type(error).__qualname__, **safe})
    return True


def _mark_failed(span: Span, error: BaseException) -> None:
    status: Any = getattr(span, "status", None)
    if status is not None and status.status_code is StatusCode.ERROR and status.description:
        return
    # Of an error of ours the message alone: its text begins with the code, which has its own attribute.
    message = getattr(getattr(error, "error_detail", None), "message", None)
    text = message if isinstance(message, str) else _text(error)
    span.set_status(Status(StatusCode.ERROR, redact_within(text, _TEXT)))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001  # the error's own code
        return f"<unprintable {type(error).__name__}>"


def _stack(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001  # the error's own code
        return type(error).__name__


def claim_log(error: BaseException) -> bool:
    """Whether the caller is the first in this trace that may log ``error``; every later call says no."""
    return _claim(error, _IN_LOG)


def _claim(error: BaseException, mark: str) -> bool:
    # Some keep one exception object and raise it again and again: each trace may tell of it once.
    occasion = trace.get_current_span().get_span_context().trace_id
    try:
        claimed = getattr(error, mark, None)
        if claimed is not None and (claimed == occasion or not occasion):
            return False
        setattr(error, mark, occasion)
    except Exception:  # noqa: BLE001  # an exception that takes no attributes is rather told twice than never
        return True
    return True
