"""What is known about where an error happened, taken from what is running.

A request or an event puts its ids on the context once (`RequestContextMiddleware`,
`idempotent_consumer`, `continue_from`); here they are picked up, so that nobody
hands them around. Factories, handlers and clients of other services use it. It
knows neither a web framework nor a Kafka client: headers come and go as mappings.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from opentelemetry import trace

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs._clock import utc_now
from huleedu_service_libs._correlation import running_correlation_id
from huleedu_service_libs._plain import plain_text
from huleedu_service_libs._redaction import redact_path
from huleedu_service_libs._scopes import restore
from huleedu_service_libs.error_handling._stack import stack_text
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.observability import inject_trace_context

__all__ = [
    "CORRELATION_HEADER",
    "Cause",
    "ErrorContext",
    "code_of",
    "enter_operation",
    "leave_operation",
    "operation_scope",
    "sole_error",
]

CORRELATION_HEADER = "X-Correlation-ID"
KAFKA_CORRELATION_HEADER = "trace_id"  # the name in the standard headers of the services' events

_UNKNOWN = "unknown"
_NO_COORDINATES: Mapping[str, Any] = MappingProxyType({})
_CAUSES = 10


class _Scope(NamedTuple):  # every request makes one: a frozen dataclass takes three times as long
    service: str | None
    operation: str | None
    coordinates: Mapping[str, Any]


_NOWHERE = _Scope(None, None, _NO_COORDINATES)
_scope: ContextVar[_Scope] = ContextVar("error_scope", default=_NOWHERE)


def operation_scope(
    service: str | None = None, operation: str | None = None, coordinates: Mapping[str, Any] = _NO_COORDINATES
) -> AbstractContextManager[None]:
    """Say where the block works; what is not said stays as it is outside, coordinates add up.

    Args:
        service: Which service.
        operation: What it is doing, such as ``process_essay``.
        coordinates: What it is doing it to, such as topic and offset, or an id; taken into every `ErrorContext` that is made inside.
    """
    outer = _scope.get()
    places = {**outer.coordinates, **coordinates} if outer.coordinates else coordinates
    return _Inside(_Scope(service or outer.service, operation or outer.operation, places))


def enter_operation(coordinates: Mapping[str, Any]) -> Token[_Scope]:
    """`operation_scope` for whoever ends it by `leave_operation`, as the layer around an application does."""
    outer = _scope.get()
    places = {**outer.coordinates, **coordinates} if outer.coordinates else coordinates
    return _scope.set(_Scope(outer.service, outer.operation, places))


def leave_operation(token: Token[_Scope]) -> None:
    """End what `enter_operation` began."""
    restore(_scope, token)


class _Inside:
    """A class, since every request enters one: a generator costs twice as much."""

    __slots__ = ("_inner", "_token")

    def __init__(self, inner: _Scope) -> None:
        self._inner = inner

    def __enter__(self) -> None:
        self._token = _scope.set(self._inner)

    def __exit__(self, *_: object) -> None:
        restore(_scope, self._token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One exception of a chain.

    Attributes:
        type: Its class.
        message: Its text, redacted.
    """

    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorContext:
    """Where, when, for which request, and caused by what.

    Attributes:
        correlation_id: The first request of the chain.
        service: Where.
        operation: Doing what.
        coordinates: Of the request (``method``, ``path``) or message (``topic``, ``partition``, ``offset``).
        causes: The chain of exceptions, the outermost first.
        trace_id: 32 hex digits of the W3C trace, recorded here or passed on.
        span_id: 16 hex digits.
        time: When, with time zone.
    """

    correlation_id: UUID
    service: str
    operation: str
    coordinates: Mapping[str, Any] = field(default_factory=dict)
    causes: tuple[Cause, ...] = ()
    trace_id: str | None = None
    span_id: str | None = None
    time: datetime = field(default_factory=utc_now)

    @classmethod
    def current(
        cls,
        *,
        service: str | None = None,
        operation: str | None = None,
        error: BaseException | None = None,
        **coordinates: Any,
    ) -> "ErrorContext":
        """Take it from what is running.

        Args:
            service: By default that of the enclosing `operation_scope` or `error_context`, then the variable
                ``SERVICE_NAME``.
            operation: By default that of the enclosing scope, then method and path of the request.
            error: Whose chain is wanted.
            **coordinates: Beside those of the scope.
        """
        scope = _scope.get()
        places = {**scope.coordinates, **coordinates}
        if "path" in places:
            places["path"] = redact_path(str(places["path"]))
        span = trace.get_current_span().get_span_context()
        return cls(
            correlation_id=running_correlation_id() or uuid4(),
            service=service or scope.service or os.environ.get("SERVICE_NAME") or _UNKNOWN,
            operation=operation or scope.operation or _operation_of(places),
            coordinates=places,
            causes=() if error is None else causes_of(error),
            trace_id=format(span.trace_id, "032x") if span.is_valid else None,
            span_id=format(span.span_id, "016x") if span.is_valid else None,
        )

    def arguments(self) -> dict[str, Any]:
        """What every factory wants to know: ``raise_validation_error(field=…, message=…, **context.arguments())``."""
        return {
            "service": self.service,
            "operation": self.operation,
            "correlation_id": self.correlation_id,
            "error_context": self,
        }

    def detail(self, code: ErrorCodeType, message: str, /, **details: Any) -> ErrorDetail:
        """An `ErrorDetail` in this context, with the names of the causes among its details."""
        return self.complete(
            ErrorDetail(
                error_code=code,
                message=message,
                correlation_id=self.correlation_id,
                timestamp=self.time,
                service=self.service,
                operation=self.operation,
                details=details,
                stack_trace=stack_text(),
            )
        )

    def complete(self, detail: ErrorDetail) -> ErrorDetail:
        """``detail`` with trace, coordinates and names of the causes, where it does not have its own."""
        added: dict[str, Any] = dict(self.coordinates)
        if self.causes:
            added["causes"] = [cause.type for cause in self.causes]
        return detail.model_copy(
            update={
                "details": {**added, **detail.details},
                "trace_id": detail.trace_id or self.trace_id,
                "span_id": detail.span_id or self.span_id,
            }
        )

    def http_headers(self) -> dict[str, str]:
        """Headers that carry this context to another service: correlation id and the running trace."""
        headers = {CORRELATION_HEADER: str(self.correlation_id)}
        inject_trace_context(headers)
        return headers

    def kafka_headers(self) -> dict[str, str]:
        """The same for a message, in the names of the services' standard headers."""
        headers = {KAFKA_CORRELATION_HEADER: str(self.correlation_id)}
        inject_trace_context(headers)
        return headers


def causes_of(error: BaseException) -> tuple[Cause, ...]:
    """``error`` and what it was raised from, ten at most."""
    causes: list[Cause] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(causes) < _CAUSES:
        seen.add(id(current))
        causes.append(Cause(type=type(current).__name__, message=plain_text(current)))
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return tuple(causes)


def code_of(error: BaseException) -> ErrorCode:
    """The code for an exception that says nothing about codes itself; for a group of one, that of the one."""
    error = _sole(error)
    if isinstance(error, TimeoutError):
        return ErrorCode.TIMEOUT
    return ErrorCode.CONNECTION_ERROR if isinstance(error, ConnectionError) else ErrorCode.UNKNOWN_ERROR


def sole_error(error: BaseException) -> HuleEduError | None:
    """The one `HuleEduError` that a task group has wrapped, or that ``error`` is itself."""
    sole = _sole(error)
    return sole if isinstance(sole, HuleEduError) else None


def _sole(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _operation_of(coordinates: Mapping[str, Any]) -> str:
    if "path" in coordinates:
        return f"{coordinates.get('method', '')} {coordinates['path']}".strip()
    return f"consume {coordinates['topic']}" if "topic" in coordinates else _UNKNOWN
