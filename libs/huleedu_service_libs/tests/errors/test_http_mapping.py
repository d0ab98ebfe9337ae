"""Codes to statuses and errors to bytes, without any framework."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from common_core import error_enums
from common_core.error_enums import ErrorCode, IdentityErrorCode
from huleedu_service_libs.error_handling import create_test_error_detail
from huleedu_service_libs.error_handling.http_mapping import (
    ERROR_CODE_TO_HTTP_STATUS,
    answer,
    error_body,
    http_status,
    prefers_problem,
)
from tests.contract.statuses import STATUSES

# Codes that would be a 500 without a status that fits them better.
FITTED = {
    "IDENTITY_INVALID_CREDENTIALS": 401,
    "IDENTITY_USER_NOT_FOUND": 404,
    "IDENTITY_USER_ALREADY_EXISTS": 409,
    "IDENTITY_ACCOUNT_LOCKED": 423,
    "LLM_PROVIDER_SERVICE_ERROR": 502,
    "LLM_PROVIDER_RATE_LIMIT": 429,
    "LLM_QUEUE_FULL": 503,
    "BCS_PIPELINE_COMPATIBILITY_FAILED": 409,
    "CJ_INSUFFICIENT_COMPARISONS": 409,
    "ENCRYPTED_FILE_UNSUPPORTED": 422,
}


@pytest.mark.parametrize(
    ("code", "status"),
    [(code, status) for status, codes in STATUSES.items() for code in codes.split()] + list(FITTED.items()),
)
def test_statuses(code: str, status: int) -> None:
    """Each code has its status, looked up as a member or as text."""
    assert ERROR_CODE_TO_HTTP_STATUS[code] == status == http_status(code)


def test_every_code_is_described() -> None:
    """No code of any family is missing from the table; an unknown one gives 500."""
    codes = {code for name in error_enums.__all__ for code in getattr(error_enums, name)}
    assert set(ERROR_CODE_TO_HTTP_STATUS) == codes
    assert http_status("NOBODY_KNOWS") == 500


def test_the_body_has_the_contracts_keys_and_no_stack() -> None:
    """One key on top, six below, time in ISO form."""
    detail = create_test_error_detail(
        ErrorCode.TIMEOUT, "slow", "svc", "op", details={"id": uuid4()}, capture_stack=True
    )
    body = error_body(detail)
    assert list(body) == ["error"]
    assert set(body["error"]) == {"code", "message", "correlation_id", "service", "timestamp", "details"}
    assert body["error"]["code"] == "TIMEOUT"
    assert body["error"]["details"] == {"id": str(detail.details["id"])}
    assert datetime.fromisoformat(body["error"]["timestamp"]) == detail.timestamp
    for accept in (None, "application/problem+json"):
        assert b"test_http_mapping" not in answer(detail, accept=accept).body


@pytest.mark.parametrize(
    ("code", "details", "wait"),
    [
        (ErrorCode.RATE_LIMIT, {"window_seconds": 30}, "30"),
        (ErrorCode.RATE_LIMIT, {"window_seconds": 30, "retry_after": 1.2}, "2"),
        (ErrorCode.RATE_LIMIT, {"window_seconds": "soon"}, "60"),
        (ErrorCode.RATE_LIMIT, {"retry_after": -1}, "60"),
        (ErrorCode.RATE_LIMIT, {"retry_after": float("nan")}, "60"),
        (ErrorCode.RATE_LIMIT, {"retry_after": 90_000}, "86400"),
        (ErrorCode.RATE_LIMIT, {"retry_after": float("inf")}, "86400"),
        (ErrorCode.RATE_LIMIT, {"retry_after": "120"}, "120"),
        (ErrorCode.RATE_LIMIT, {"retry_after": True}, "60"),
        (ErrorCode.CIRCUIT_BREAKER_OPEN, {}, "30"),
        (ErrorCode.TIMEOUT, {}, None),
    ],
)
def test_retry_after(code: ErrorCode, details: dict[str, Any], wait: str | None) -> None:
    """429 and 503 say when to come back: from the details, a day at most, else from the catalogue; others do not."""
    assert answer(create_test_error_detail(code, details=details)).headers.get("Retry-After") == wait


@pytest.mark.parametrize("code", list(ERROR_CODE_TO_HTTP_STATUS))
def test_every_waiting_status_has_a_header(code: Any) -> None:
    """Whatever the code, 429 and 503 come with ``Retry-After``."""
    sent = answer(create_test_error_detail(code))
    assert ("Retry-After" in sent.headers) == (sent.status in {429, 503})


def test_a_problem_on_request() -> None:
    """RFC 9457: its members, our fields as extensions, its media type; ``Vary`` tells caches."""
    detail = create_test_error_detail(IdentityErrorCode.ACCOUNT_LOCKED, "Locked", details={"a": 1})
    sent = answer(detail, accept="application/problem+json, */*;q=0.1", instance="/login", trace_id="a" * 32)
    assert (sent.status, sent.content_type, sent.headers["Vary"]) == (423, "application/problem+json", "Accept")
    assert json.loads(sent.body) == {
        "type": "urn:huleedu:error:IDENTITY_ACCOUNT_LOCKED",
        "title": "The account is locked.",
        "status": 423,
        "detail": "Locked",
        "instance": "/login",
        "code": "IDENTITY_ACCOUNT_LOCKED",
        "correlation_id": str(detail.correlation_id),
        "service": "test_service",
        "timestamp": detail.timestamp.isoformat(),
        "details": {"a": 1},
        "trace_id": "a" * 32,
    }


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, application/problem+json;q=0.5", False),
        ("application/problem+json", True),
        ("APPLICATION/PROBLEM+JSON; q=0.9, text/html", True),
        ("application/problem+json, application/json", True),
        ("application/problem+json;q=0", False),
        ("application/problem+json;q=banana", False),
        ("application/problem+json;q=nan", False),
    ],
)
def test_who_wants_a_problem(accept: str | None, wanted: object) -> None:
    """Only who names the type, and does not like plain JSON better."""
    assert prefers_problem(accept) is wanted


def test_the_id_is_shown_as_it_came() -> None:
    """An id that is no UUID is shown as the client sent it, but only on the error that belongs to it."""
    from huleedu_service_libs._ids import correlation_uuid  # noqa: PLC0415  # of this test only

    own = create_test_error_detail(correlation_id=correlation_uuid("request-7"))
    other = create_test_error_detail()
    assert error_body(own, "request-7")["error"]["correlation_id"] == "request-7"
    assert error_body(other, "request-7")["error"]["correlation_id"] == str(other.correlation_id)


def test_an_override_wins() -> None:
    """A status given by the caller replaces that of the code, zero included."""
    assert answer(create_test_error_detail(), 418).status == 418
    assert create_test_error_detail().timestamp.tzinfo is UTC


@pytest.mark.parametrize("module", ["quart_handlers", "fastapi_handlers", "quart", "fastapi", "http_mapping"])
def test_the_table_loads_no_framework(module: str) -> None:
    """Importing either module of handlers loads neither Quart nor FastAPI (defect 41)."""
    code = (
        f"import sys, huleedu_service_libs.error_handling.{module}\n"
        "from huleedu_service_libs.error_handling.quart_handlers import ERROR_CODE_TO_HTTP_STATUS\n"
        "print(*({'quart', 'fastapi', 'starlette', 'werkzeug'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603  # our own code
    assert done.stdout.split() == []
