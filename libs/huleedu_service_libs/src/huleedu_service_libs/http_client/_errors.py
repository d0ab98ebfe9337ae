"""What can become of a request, and the `HuleEduError` that tells of it.

A request's failure is first an `AttemptFailedError`: retries judge it, and only the one that
reaches the caller becomes an error with stack and span.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_error_detail_with_context,
    raise_connection_error,
    raise_external_service_error,
    raise_invalid_response,
    raise_rate_limit_error,
    raise_resource_not_found,
    raise_service_unavailable,
    raise_timeout_error,
    raise_unknown_error,
)
from huleedu_service_libs.resilience.errors import NotReachedError

__all__ = [
    "AttemptFailedError",
    "ConnectionPoolExhaustedError",
    "counts_as_outage",
    "failure_of_status",
    "make_error",
    "pool_exhausted",
]

_OUTAGES = frozenset(
    {
        ErrorCode.CONNECTION_ERROR,
        ErrorCode.RATE_LIMIT,
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.TIMEOUT,
        ErrorCode.UNKNOWN_ERROR,
    }
)
_UNAVAILABLE = frozenset({500, 502, 503, 504})
_LONGEST_RETRY_AFTER = 24 * 3600.0

_FACTORIES: Mapping[ErrorCode, Callable[..., Any]] = {
    ErrorCode.CONNECTION_ERROR: raise_connection_error,
    ErrorCode.EXTERNAL_SERVICE_ERROR: raise_external_service_error,
    ErrorCode.INVALID_RESPONSE: raise_invalid_response,
    ErrorCode.RATE_LIMIT: raise_rate_limit_error,
    ErrorCode.RESOURCE_NOT_FOUND: raise_resource_not_found,
    ErrorCode.SERVICE_UNAVAILABLE: raise_service_unavailable,
    ErrorCode.TIMEOUT: raise_timeout_error,
    ErrorCode.UNKNOWN_ERROR: raise_unknown_error,
}
_OURS = frozenset(
    {"service", "operation", "message", "correlation_id"}
)  # what a caller's context must not stand in for


class ConnectionPoolExhaustedError(HuleEduError, NotReachedError):
    """All connections were in use for too long: the other service was never asked, and breakers don't count it."""


class AttemptFailedError(Exception):
    """One attempt has failed.

    Attributes:
        code: What it will be called.
        message: For people.
        details: Of the error.
        again: Whether another attempt makes sense.
        carried_out: Whether the other side may have done what was asked.
        retry_after: Seconds that the other side asked to wait.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        details: dict[str, Any] | None = None,
        *,
        again: bool = False,
        carried_out: bool = True,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details or {}
        self.again = again
        self.carried_out = carried_out
        self.retry_after = retry_after


def failure_of_status(status: int, url: str, service: str, retry_after: str | None) -> AttemptFailedError:
    """What an answer that is no success means."""
    details: dict[str, Any] = {"status_code": status, "external_service": service}
    seconds = _seconds(retry_after)
    if status == 404:  # noqa: PLR2004  # statuses are known by their numbers, here and below
        details = {"resource_type": "HTTP resource", "resource_id": url, "status_code": status}
        return AttemptFailedError(ErrorCode.RESOURCE_NOT_FOUND, f"HTTP resource with ID '{url}' not found", details)
    if status == 429:  # noqa: PLR2004
        limits = {"limit": 0, "window_seconds": int(seconds or 0), **details}
        return AttemptFailedError(
            ErrorCode.RATE_LIMIT, f"{url} limits the rate", limits, again=True, carried_out=False, retry_after=seconds
        )
    if status in _UNAVAILABLE:
        return AttemptFailedError(
            ErrorCode.SERVICE_UNAVAILABLE,
            f"{url} answered {status}",
            {"unavailable_service": url, **details},
            again=True,
            carried_out=status != 503,  # noqa: PLR2004
            retry_after=seconds,
        )
    if 400 <= status < 500:  # noqa: PLR2004
        return AttemptFailedError(ErrorCode.INVALID_RESPONSE, f"{url} answered {status}", details)
    return AttemptFailedError(ErrorCode.EXTERNAL_SERVICE_ERROR, f"{url} answered {status}", details)


def make_error(
    failure: AttemptFailedError, *, service: str, operation: str, correlation_id: UUID, context: dict[str, Any]
) -> HuleEduError:
    """The error that the caller gets; ``resource_type`` and ``resource_id`` in ``context`` name what was not found."""
    named = {f"context_{name}" if name in _OURS else name: value for name, value in context.items()}
    details = {**failure.details, **named, "service": service, "operation": operation, "correlation_id": correlation_id}
    if failure.code is not ErrorCode.RESOURCE_NOT_FOUND:  # whose text is made of what was not found
        details["message"] = failure.message
    try:
        _FACTORIES[failure.code](**details)
    except HuleEduError as error:
        return error
    raise AssertionError(f"the factory of {failure.code} raised nothing")


def pool_exhausted(*, service: str, operation: str, correlation_id: UUID, context: dict[str, Any]) -> HuleEduError:
    """The error of a request that found no connection."""
    message = "All connections are in use: raise connection_pool_size, or call less at once"
    return ConnectionPoolExhaustedError(  # a class of its own, which no factory raises
        create_error_detail_with_context(
            error_code=ErrorCode.SERVICE_UNAVAILABLE,
            message=message,
            service=service,
            operation=operation,
            correlation_id=correlation_id,
            details=context,
        )
    )


def counts_as_outage(error: BaseException) -> bool:
    """Whether ``error`` says that the other side is unwell, rather than that it refused one request.

    For ``BreakerPolicy.is_failure``: a missing resource must not open a circuit.
    """
    return isinstance(error, HuleEduError) and error.error_detail.error_code in _OUTAGES


def _seconds(retry_after: str | None) -> float | None:
    """What the header asks for, if it is a number of seconds that anybody would wait for."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return None
    return min(float(retry_after), _LONGEST_RETRY_AFTER)
