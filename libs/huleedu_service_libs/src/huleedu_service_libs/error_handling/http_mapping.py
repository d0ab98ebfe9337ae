"""From an error to an HTTP answer: status, headers and bytes, for any framework.

The handlers of Quart and FastAPI send what `answer` returns, so that both send
the same. Neither is imported here.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs._ids import correlation_uuid
from huleedu_service_libs._json import dumps
from huleedu_service_libs._plain import plain, plain_text
from huleedu_service_libs.error_handling.catalogue import FAMILIES, CodeDescription

__all__ = ["ERROR_CODE_TO_HTTP_STATUS", "Answer", "answer", "error_body", "http_status", "prefers_problem"]

_DESCRIPTIONS: dict[str, CodeDescription] = {each.code: each for family in FAMILIES for each in family.codes}

ERROR_CODE_TO_HTTP_STATUS: dict[str, int] = {each.code: each.status for each in _DESCRIPTIONS.values()}
"""Statuses by code, from the catalogue; a code's text finds them too."""

PROBLEM_TYPE = "application/problem+json"
_JSON_TYPE = "application/json"
_TYPE_PREFIX = "urn:huleedu:error:"
_WAITING_HELPS = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_WAIT_NAMES = ("retry_after", "retry_after_seconds", "window_seconds")
_DEFAULT_WAIT = 5
_LONGEST_WAIT = 24 * 3600
_DIGITS = re.compile(r"[0-9]{1,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to send.

    Attributes:
        status: The HTTP status.
        content_type: Of the body.
        headers: Beside the content type.
        body: JSON.
        repeated_headers: Further ones, whose names may stand among ``headers`` too.
    """

    status: int
    content_type: str
    headers: dict[str, str]
    body: bytes
    repeated_headers: tuple[tuple[str, str], ...] = ()


def http_status(code: ErrorCodeType | str) -> int:
    """The status of a code; 500 for one that the catalogue does not know."""
    known = _DESCRIPTIONS.get(code)
    return known.status if known else HTTPStatus.INTERNAL_SERVER_ERROR


def answer(
    detail: ErrorDetail,
    status: int | None = None,
    *,
    accept: str | None = None,
    instance: str | None = None,
    correlation_id: str | None = None,
    trace_id: str | None = None,
) -> Answer:
    """Turn an error into what a client gets: redacted, without its stack, always encodable.

    Args:
        detail: The error.
        status: Wins over that of the code.
        accept: The request's ``Accept``; ``application/problem+json`` in it asks for RFC 9457.
        instance: The request's path, for a problem.
        correlation_id: The request's id as it came; shown instead of the UUID that was made from it.
        trace_id: Of the request, for a problem; by default the error's.
    """
    chosen = int(status if status is not None else http_status(detail.error_code))
    fields = error_body(detail, correlation_id)["error"]
    headers = {"Vary": "Accept"}
    if chosen in _WAITING_HELPS:
        headers["Retry-After"] = str(_seconds_to_wait(detail))
    if not prefers_problem(accept):
        return Answer(status=chosen, content_type=_JSON_TYPE, headers=headers, body=dumps({"error": fields}))
    problem = {
        "type": _TYPE_PREFIX + fields["code"],
        "title": _title(detail.error_code),
        "status": chosen,
        "detail": fields["message"],
        **({"instance": plain_text(instance)} if instance else {}),
        **{name: value for name, value in fields.items() if name != "message"},
        "trace_id": trace_id or detail.trace_id,
    }
    return Answer(status=chosen, content_type=PROBLEM_TYPE, headers=headers, body=dumps(problem))


def error_body(detail: ErrorDetail, correlation_id: str | None = None) -> dict[str, Any]:
    """The body that all services answer with; plain, redacted data."""
    own = str(detail.correlation_id)
    is_the_request = correlation_id is not None and str(correlation_uuid(correlation_id)) == own
    return {
        "error": {
            "code": str(detail.error_code.value),
            "message": plain_text(detail.message),
            "correlation_id": correlation_id if is_the_request else own,
            "service": plain_text(detail.service),
            "timestamp": detail.timestamp.isoformat(),
            "details": plain(detail.details),
        }
    }


def prefers_problem(accept: str | None) -> bool:
    """Whether ``accept`` names ``application/problem+json``, and not behind ``application/json``."""
    weights = _weights(accept or "")
    wanted = weights.get(PROBLEM_TYPE, 0.0)
    return wanted > 0 and wanted >= weights.get(_JSON_TYPE, 0.0)


def _weights(accept: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept.lower().split(",")[:32]:
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        weights[kind] = next((_weight(each[2:]) for each in parameters if each.startswith("q=")), 1.0)
    return weights


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if math.isfinite(weight) else 0.0


def _title(code: ErrorCodeType) -> str:
    known = _DESCRIPTIONS.get(code)
    return known.meaning if known else "Something failed."


def _seconds_to_wait(detail: ErrorDetail) -> int:
    given = _given_wait(detail.details)
    if given is not None:
        return given
    known = _DESCRIPTIONS.get(detail.error_code)
    return known.retry_after if known and known.retry_after else _DEFAULT_WAIT


def _given_wait(details: Mapping[str, Any]) -> int | None:
    for name in _WAIT_NAMES:
        seconds = _seconds(details.get(name))
        if seconds is not None and seconds >= 0:
            return math.ceil(min(seconds, _LONGEST_WAIT))
    return None


def _seconds(value: Any) -> float | None:
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return float(value)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
