"""From another service's HTTP answer back to the error that it raised.

For clients of any HTTP library: takes status, body and headers. Accepts the
services' own body and RFC 9457 problems; anything else, whoever sent it, still
becomes an error of a fitting code. What is read is data from outside: bounded,
validated, never trusted.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.trace import SpanContext, TraceFlags
from pydantic import TypeAdapter, ValidationError

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs._clock import utc_now
from huleedu_service_libs._ids import acceptable_correlation_id, correlation_uuid
from huleedu_service_libs._plain import plain, plain_text
from huleedu_service_libs.error_handling.context import ErrorContext
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError

__all__ = ["error_from_response"]

_LARGEST_BODY = 1_000_000  # bytes
_CODES: TypeAdapter[Any] = TypeAdapter(ErrorCodeType)
_MOMENTS = TypeAdapter(datetime)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_HEX_TRACE = re.compile(r"[0-9a-f]{32}")
_SECONDS = re.compile(r"[0-9]{1,6}")
_HEX_SPAN = re.compile(r"[0-9a-f]{16}")
_BAD_REQUEST, _NOT_FOUND, _TOO_MANY, _SERVER_FAULT = 400, 404, 429, 500
_UNAVAILABLE = frozenset({500, 502, 503, 504})


def error_from_response(
    status: int | str,
    body: bytes | bytearray | memoryview | str | None,
    headers: Mapping[str, str] | Iterable[tuple[Any, Any]] | None = None,
    *,
    service: str | None = None,
    operation: str | None = None,
) -> HuleEduError:
    """The error that another service answered with.

    An answer of one of our services gives the error as it was raised there: code, message, service,
    correlation id, time and details; the trace there becomes the error's trace and, inside a recording
    span, a link of that span. Any other answer gives RESOURCE_NOT_FOUND for 404, RATE_LIMIT for 429,
    SERVICE_UNAVAILABLE for 500, 502, 503 and 504, INVALID_RESPONSE for other 4xx, else
    EXTERNAL_SERVICE_ERROR. A code that is not known here is kept as ``details["remote_code"]``.

    Args:
        status: The HTTP status, as a number or its text; call this for answers that are errors.
        body: As it came; ``None`` for none.
        headers: As they came, a mapping or pairs; names in any case.
        service: Whom the answer came from, for answers that do not say.
        operation: What was asked of it; by default that of the running context.

    Returns:
        The error, to raise or to look at. Never fails, whatever the answer is.
    """
    known = _headers(headers)
    status = _status(status)
    fields = _fields(body)
    here = ErrorContext.current(service=service, operation=operation)
    trace_id, span_id = _remote_trace(known, fields)
    _link(trace_id, span_id)
    code, extra = _code(fields.get("code"), status)
    details = fields.get("details")
    wait = known.get("retry-after", "")
    return HuleEduError(
        ErrorDetail(
            error_code=code,
            message=plain_text(fields.get("message") or f"The service answered {status}"),
            correlation_id=_correlation_id(fields, known, here),
            timestamp=_moment(fields.get("timestamp")),
            service=plain_text(fields.get("service") or here.service),
            operation=here.operation,
            details={
                **(plain(details) if isinstance(details, dict) else {}),
                **({"retry_after": int(wait)} if _SECONDS.fullmatch(wait) else {}),
                **extra,
            },
            trace_id=trace_id,
            span_id=span_id,
        )
    )


def _status(given: Any) -> int:
    try:
        return int(given)
    except (TypeError, ValueError, OverflowError):
        return 0


def _headers(given: Any) -> dict[str, str]:
    try:
        pairs = list(given.items() if isinstance(given, Mapping) else given or ())
        return {_text(name).lower(): _text(value) for name, value in pairs}
    except (TypeError, ValueError):
        return {}


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _fields(body: Any) -> dict[str, Any]:
    """What the answer says, in the words of our own body; empty when it is of another kind."""
    if isinstance(body, memoryview):
        body = body.tobytes() if body.nbytes <= _LARGEST_BODY else None
    if not isinstance(body, bytes | bytearray | str) or len(body) > _LARGEST_BODY:
        return {}
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    error = content.get("error")
    if isinstance(error, dict):
        return error if isinstance(error.get("code"), str) else {}
    if isinstance(content.get("code"), str) and "title" in content:
        return {**content, "message": content.get("detail")}
    return {}


def _code(given: Any, status: int) -> tuple[ErrorCodeType, dict[str, Any]]:
    if given is None:
        return _code_of_status(status), {"status_code": status}
    try:
        code: ErrorCodeType = _CODES.validate_python(given)
    except ValidationError:
        return _code_of_status(status), {"status_code": status, "remote_code": plain_text(given)}
    return code, {}


def _code_of_status(status: int) -> ErrorCode:
    if status == _NOT_FOUND:
        return ErrorCode.RESOURCE_NOT_FOUND
    if status == _TOO_MANY:
        return ErrorCode.RATE_LIMIT
    if status in _UNAVAILABLE:
        return ErrorCode.SERVICE_UNAVAILABLE
    return ErrorCode.INVALID_RESPONSE if _BAD_REQUEST <= status < _SERVER_FAULT else ErrorCode.EXTERNAL_SERVICE_ERROR


def _correlation_id(fields: Mapping[str, Any], headers: Mapping[str, str], here: ErrorContext) -> UUID:
    for given in (fields.get("correlation_id"), headers.get("x-correlation-id")):
        acceptable = acceptable_correlation_id(given)
        if acceptable:
            return correlation_uuid(acceptable)
    return here.correlation_id


def _moment(given: Any) -> datetime:
    try:
        moment = _MOMENTS.validate_python(given)
    except ValidationError:
        return utc_now()
    return moment if moment.tzinfo is not None else utc_now()


def _remote_trace(headers: Mapping[str, str], fields: Mapping[str, Any]) -> tuple[str | None, str | None]:
    found = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    if found and _is_set(found[1]) and _is_set(found[2]):
        return found[1], found[2]
    trace_id = headers.get("x-trace-id") or str(fields.get("trace_id") or "")
    if not _HEX_TRACE.fullmatch(trace_id) or not _is_set(trace_id):
        return None, None
    span_id = headers.get("x-span-id", "")
    return trace_id, span_id if _HEX_SPAN.fullmatch(span_id) and _is_set(span_id) else None


def _is_set(digits: str) -> bool:
    return digits.strip("0") != ""  # zeros alone are no id, says W3C


def _link(trace_id: str | None, span_id: str | None) -> None:
    span = trace.get_current_span()
    if trace_id and span_id and span.is_recording():
        remote = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
        if remote.is_valid:
            span.add_link(remote)
