"""Where exceptions become errors with a context, and where a context arrives from another process.

Around a handler, a job or a call: whatever is raised inside leaves as a
`HuleEduError`. Knows no framework.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

from common_core.models.error_models import ErrorCodeType
from huleedu_service_libs._ids import acceptable_correlation_id
from huleedu_service_libs.error_handling.context import ErrorContext, code_of, operation_scope, sole_error
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.logging_utils import current_log_context, log_context
from huleedu_service_libs.observability import use_trace_context

__all__ = ["continue_from", "error_context"]

Headers = Mapping[str, Any] | Iterable[tuple[Any, Any]]
"""A mapping, or pairs as Kafka and ASGI have them; names and values as text or bytes."""

UNEXPECTED = "An unexpected error occurred"

_CORRELATION_NAMES = ("x-correlation-id", "correlation-id", "trace-id")
_ANSWERS = frozenset(
    {
        "starlette.exceptions.HTTPException",
        "starlette.exceptions.WebSocketException",
        "werkzeug.exceptions.HTTPException",
    }
)
_TRACE_NAMES = ("traceparent", "tracestate")


@contextmanager
def error_context(
    service: str | None = None,
    operation: str | None = None,
    *,
    code: ErrorCodeType | None = None,
    message: str = UNEXPECTED,
    **coordinates: Any,
) -> Iterator[ErrorContext]:
    """Turn whatever the block raises into a `HuleEduError` with this context.

    A `HuleEduError` passes unchanged, also out of a task group that wrapped it alone, and so do the
    exceptions that Quart and FastAPI answer by themselves, cancellation and the end of the process. The
    original is the new error's ``__cause__``; its text stays out of the message and the details,
    because clients read those.

    Args:
        service: Where; by default as in `ErrorContext.current`.
        operation: Doing what.
        code: Of the new error; by default TIMEOUT for a `TimeoutError`, CONNECTION_ERROR for a
            `ConnectionError`, else UNKNOWN_ERROR.
        message: Of the new error.
        **coordinates: Of the request or message, such as ``topic``, ``partition`` and ``offset``.

    Yields:
        The context inside, with the ids that are current.

    Raises:
        HuleEduError: In place of what the block raised.
    """
    running = acceptable_correlation_id(current_log_context().get("correlation_id")) or str(uuid4())
    with operation_scope(service, operation, coordinates), log_context(correlation_id=running):
        try:
            yield ErrorContext.current()
        except HuleEduError:
            raise
        except Exception as error:
            sole = sole_error(error)
            if sole is not None:
                raise sole from sole.__cause__  # the group only wraps it
            if _is_an_answer(error):
                raise
            context = ErrorContext.current(error=error)
            raise HuleEduError(
                context.detail(code or code_of(error), message, error_type=type(error).__name__)
            ) from error


@contextmanager
def continue_from(headers: Headers) -> Iterator[None]:
    """Go on inside the block with the correlation id and the trace that ``headers`` carry.

    Takes headers of HTTP requests and of Kafka messages. An id that could not stand safely in a
    log is replaced by a new one.
    """
    known = _known(headers)
    given = next((known[name] for name in _CORRELATION_NAMES if name in known), None)
    correlation_id = acceptable_correlation_id(given) or str(uuid4())
    with (
        log_context(correlation_id=correlation_id),
        use_trace_context({name: known[name] for name in _TRACE_NAMES if name in known}),
    ):
        yield


def _is_an_answer(error: Exception) -> bool:
    # By name: no framework is imported here, and one that is not installed raises nothing.
    return any(f"{kind.__module__}.{kind.__qualname__}" in _ANSWERS for kind in type(error).__mro__)


def _known(headers: Headers) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {_text(name).lower().replace("_", "-"): _text(value) for name, value in pairs}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
