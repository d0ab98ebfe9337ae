"""An exception is recorded once on its way out, not by every layer that it passes."""

from collections.abc import Mapping

from opentelemetry.trace import Span

__all__ = ["claim_log", "record_exception_once"]

_ON_SPAN = "_huleedu_on_span"
_IN_LOG = "_huleedu_in_log"


def record_exception_once(span: Span, error: BaseException, attributes: Mapping[str, str] | None = None) -> bool:
    """Record ``error`` on ``span`` unless an inner layer has recorded it already.

    Args:
        span: The recording span.
        error: What passes.
        attributes: Of the event, over those that OpenTelemetry takes from the error itself.

    Returns:
        Whether it was recorded now.
    """
    if not _claim(error, _ON_SPAN):
        return False
    span.record_exception(error, attributes=dict(attributes or {}))
    return True


def claim_log(error: BaseException) -> bool:
    """Whether the caller is the first that may log ``error``; every later call says no."""
    return _claim(error, _IN_LOG)


def _claim(error: BaseException, mark: str) -> bool:
    try:
        if getattr(error, mark, False):
            return False
        setattr(error, mark, True)
    except Exception:  # noqa: BLE001  # an exception that takes no attributes is rather told twice than never
        return True
    return True
