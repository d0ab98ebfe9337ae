"""What the error handlers of Quart and FastAPI do alike: details for what was raised, answers, the log line.

``frameworks/*_errors`` use it; each tells how its framework looks at a request and sends bytes. Knows neither.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from uuid import uuid4

from opentelemetry import trace

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs._ids import acceptable_correlation_id, correlation_uuid
from huleedu_service_libs._redaction import redact_path
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER, ErrorContext, sole_error
from huleedu_service_libs.error_handling.http_mapping import Answer, answer
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.error_handling.logging_utils import log_error_once
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.faults import shown_faults
from huleedu_service_libs.observability import get_current_trace_id
from huleedu_service_libs.observability.recording import record_exception_once

__all__ = [
    "RequestView",
    "answer_http",
    "answer_invalid",
    "answer_known",
    "answer_unexpected",
    "correlation_id_of",
    "to_answer",
]

_logger = create_service_logger("huleedu_service_libs.error_handling")

_UNEXPECTED = "An unexpected error occurred"
_SPAN_ID = re.compile(r"[0-9a-f]{16}")
_PHRASES = {each.value: each.phrase for each in HTTPStatus}
_YIELDING = frozenset({"retry-after", "vary"})
_OF_THE_BODY = frozenset({"content-type", "content-length", "content-encoding", "transfer-encoding"})
_CODES_BY_STATUS: Mapping[int, ErrorCodeType] = {
    401: ErrorCode.AUTHENTICATION_ERROR,
    403: ErrorCode.AUTHORIZATION_ERROR,
    404: ErrorCode.RESOURCE_NOT_FOUND,
    408: ErrorCode.TIMEOUT,
    422: ErrorCode.VALIDATION_ERROR,
    429: ErrorCode.RATE_LIMIT,
    502: ErrorCode.EXTERNAL_SERVICE_ERROR,
    503: ErrorCode.SERVICE_UNAVAILABLE,
    504: ErrorCode.TIMEOUT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestView:
    """What the handlers want to know of a request.

    Attributes:
        method: In capitals.
        path: Without the query.
        accept: The header ``Accept``.
        correlation_id: As it came, or a new one.
        service: Who answers.
    """

    method: str
    path: str
    accept: str | None
    correlation_id: str
    service: str


def correlation_id_of(*candidates: Any) -> str:
    """The first acceptable one of ``candidates``, else a new UUID."""
    acceptable = (acceptable_correlation_id(each) for each in candidates)
    return next((each for each in acceptable if each), None) or str(uuid4())


def answer_known(error: HuleEduError, request: RequestView) -> Answer:
    """For an error with a code; one with an own ``status_code`` keeps that."""
    own = getattr(error, "status_code", None)
    sent = to_answer(error.error_detail, request, own if isinstance(own, int) else None)
    log_error_once(_logger, error, sent.status, error.error_detail)
    return sent


def answer_unexpected(error: Exception, request: RequestView) -> Answer:
    """For anything else: 500, and the client learns no more than the type.

    A task group wraps what its tasks raise: a group of one `HuleEduError` is answered as that error.
    """
    sole = sole_error(error)
    if sole is not None:
        return answer_known(sole, request)
    detail = _detail(ErrorCode.UNKNOWN_ERROR, _UNEXPECTED, request, {"error_type": type(error).__name__})
    span = trace.get_current_span()
    if span.is_recording():
        record_exception_once(span, error)
    sent = to_answer(detail, request)
    log_error_once(_logger, error, sent.status, detail)
    return sent


def answer_http(
    error: Exception, status: int, said: Any, headers: Iterable[tuple[str, str]], request: RequestView
) -> Answer:
    """For what the framework itself refuses: unknown paths, wrong methods, ``abort``.

    Args:
        error: The framework's exception.
        status: Stays what it is.
        said: Its own text or data; ``None`` for the framework's standard text.
        headers: That belong to it, such as ``Allow``. Its ``Retry-After`` wins over that of the code.
        request: Who asked.
    """
    phrase = _PHRASES.get(status, "Error")
    fallback = ErrorCode.UNKNOWN_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else ErrorCode.INVALID_REQUEST
    message, details = (
        (said, {}) if isinstance(said, str) and said else (phrase, {} if said is None else {"detail": said})
    )
    detail = _detail(_CODES_BY_STATUS.get(status, fallback), message, request, details)
    sent = to_answer(detail, request, status)
    log_error_once(_logger, error, status, detail)
    return _with_headers(sent, headers)


def answer_invalid(error: Exception, faults: list[Any], request: RequestView) -> Answer:
    """For a request that does not fit its model: 422 with pydantic's list of faults, their inputs redacted.

    A list too long for an answer is cut behind a whole fault; ``validation_errors_in_all`` then tells how many there were.
    """
    shown = shown_faults(faults)
    first = shown[0].get("msg") if shown else None
    details: dict[str, Any] = {"validation_errors": shown}
    if len(shown) < len(faults):
        details["validation_errors_in_all"] = len(faults)
    detail = _detail(ErrorCode.VALIDATION_ERROR, str(first or "The request is not valid"), request, details)
    sent = to_answer(detail, request, HTTPStatus.UNPROCESSABLE_ENTITY)
    log_error_once(_logger, error, sent.status, detail)
    return sent


def to_answer(detail: ErrorDetail, request: RequestView, status: int | None = None) -> Answer:
    """The answer with the ids of the request in its headers."""
    sent = answer(
        detail,
        status,
        accept=request.accept,
        instance=request.path,
        correlation_id=request.correlation_id,
        trace_id=get_current_trace_id(),
    )
    ids = {CORRELATION_HEADER: request.correlation_id}
    if detail.span_id and _SPAN_ID.fullmatch(detail.span_id):  # it may come from another service
        ids["X-Span-ID"] = detail.span_id
    return replace(sent, headers={**sent.headers, **ids})


def _with_headers(sent: Answer, given: Iterable[tuple[str, str]]) -> Answer:
    """Names in any case; what the exception says of its own body and the ids of the request do not come from it."""
    own = {name.lower() for name in sent.headers} - _YIELDING
    headers = {name: value for name, value in sent.headers.items() if name.lower() in own}
    repeated: list[tuple[str, str]] = []
    for name, value in given:
        lower = name.lower()
        if lower in _OF_THE_BODY or lower in own:
            continue
        if any(lower == each.lower() for each in headers):
            repeated.append((name, value))
        else:
            headers[name] = value
    present = {name.lower() for name in headers}
    headers |= {name: value for name, value in sent.headers.items() if name.lower() not in present}
    if "vary" in present:
        repeated.append(("Vary", sent.headers["Vary"]))
    return replace(sent, headers=headers, repeated_headers=tuple(repeated))


def _detail(code: ErrorCodeType, message: str, request: RequestView, details: dict[str, Any]) -> ErrorDetail:
    context = ErrorContext(
        correlation_id=correlation_uuid(request.correlation_id),
        service=request.service,
        operation=f"{request.method} {redact_path(request.path)}",
        trace_id=get_current_trace_id(),
    )
    return ErrorDetail(
        error_code=code,
        message=message,
        correlation_id=context.correlation_id,
        timestamp=context.time,
        service=context.service,
        operation=context.operation,
        details=details,
        trace_id=context.trace_id,
    )
