"""From another service's answer back to its error."""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common_core.error_enums import ErrorCode, IdentityErrorCode
from huleedu_service_libs.error_handling import HuleEduError, error_from_response
from huleedu_service_libs.error_handling.http_mapping import ERROR_CODE_TO_HTTP_STATUS, answer
from huleedu_service_libs.logging_utils import log_context

from .applications import CORRELATION, HEADERS, TRACE, ask, detail_of, known, make_fastapi, make_quart


@pytest.fixture(name="exporter")
def _exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.mark.parametrize("make", [make_fastapi, make_quart])
@pytest.mark.parametrize("accept", ["application/json", "application/problem+json"])
async def test_an_error_of_ours_comes_back_as_it_was(make: Any, accept: str) -> None:
    """Code, message, details, service, time and correlation id survive the journey, from either body."""
    detail = detail_of(ErrorCode.RATE_LIMIT, limit=3, window_seconds=60)
    response = await ask(make(known(detail)), accept=accept, **HEADERS)
    error = error_from_response(response.status_code, response.content, response.headers, operation="call")
    found = error.error_detail
    assert isinstance(error, HuleEduError)
    assert (found.error_code, found.message, found.service) == (ErrorCode.RATE_LIMIT, detail.message, "svc")
    assert (found.correlation_id, found.timestamp) == (detail.correlation_id, detail.timestamp)
    assert found.details == {"limit": 3, "window_seconds": 60, "retry_after": 60}
    assert (found.operation, found.trace_id, found.stack_trace) == ("call", TRACE, None)


@pytest.mark.parametrize("code", list(ERROR_CODE_TO_HTTP_STATUS))
def test_every_code_comes_back(code: Any) -> None:
    """Each member of each family is the same member afterwards."""
    sent = answer(detail_of().model_copy(update={"error_code": code}))
    found = error_from_response(sent.status, sent.body, sent.headers).error_detail.error_code
    assert found is code


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "RESOURCE_NOT_FOUND"),
        (429, "RATE_LIMIT"),
        (500, "SERVICE_UNAVAILABLE"),
        (503, "SERVICE_UNAVAILABLE"),
        (418, "INVALID_RESPONSE"),
        (302, "EXTERNAL_SERVICE_ERROR"),
        (599, "EXTERNAL_SERVICE_ERROR"),
    ],
)
def test_an_answer_of_somebody_else(status: int, code: str) -> None:
    """Without our body the status decides; ids come from the running context."""
    with log_context(correlation_id=CORRELATION):
        error = error_from_response(status, b"<html>hunter2</html>", {"Retry-After": "7"}, service="them")
    assert (error.error_code, error.service, error.correlation_id) == (code, "them", CORRELATION)
    assert error.error_detail.details == {"status_code": status, "retry_after": 7}
    assert str(status) in error.error_detail.message


def test_a_code_from_the_future() -> None:
    """A code that this version does not know is kept in the details, and the status decides."""
    body = {"error": {"code": "NEW", "message": "m", "correlation_id": CORRELATION, "details": {"a": 1}}}
    detail = error_from_response(503, json.dumps(body)).error_detail
    assert detail.error_code == ErrorCode.SERVICE_UNAVAILABLE
    assert detail.details == {"a": 1, "status_code": 503, "remote_code": "NEW"}
    assert detail.correlation_id == UUID(CORRELATION)


def test_the_remote_trace_is_linked(exporter: InMemorySpanExporter) -> None:
    """Inside a recording span the remote span becomes a link, and the error is recorded there once."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    sent = answer(detail_of().model_copy(update={"error_code": IdentityErrorCode.ACCOUNT_LOCKED}))
    with provider.get_tracer("t").start_as_current_span("call", record_exception=False, set_status_on_exception=False):
        error = error_from_response(sent.status, sent.body, {"X-Trace-Id": TRACE, "X-Span-ID": "b7ad6b7169203331"})
        assert trace.get_current_span().is_recording()
    (span,) = exporter.get_finished_spans()
    assert [format(link.context.trace_id, "032x") for link in span.links] == [TRACE] == [error.error_detail.trace_id]
    assert [event.name for event in span.events] == ["exception"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("code", "message", "correlation_id", "service", "timestamp", "details", "trace_id"), JSON),
)


@given(
    status=st.integers(100, 999),
    body=st.binary() | JSON.map(json.dumps) | FIELDS.map(lambda fields: json.dumps({"error": fields})),
    headers=st.dictionaries(
        st.sampled_from(["x-correlation-id", "traceparent", "x-trace-id", "x-span-id", "retry-after"]), st.text()
    ),
)
def test_no_answer_breaks_the_reader(status: int, body: bytes | str, headers: dict[str, str]) -> None:
    """Whatever comes from outside, an error results, and it can be answered in turn."""
    error = error_from_response(status, body, headers)
    json.loads(answer(error.error_detail).body)


def test_too_large_and_too_deep_bodies() -> None:
    """Neither a huge nor a deeply nested body is read."""
    for body in (b"[" * 100_000, b'{"error": {"code": "TIMEOUT", "x": "' + b"x" * 1_000_001 + b'"}}'):
        assert error_from_response(500, body).error_code == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize("body", [None, b"", bytearray(b"{}"), memoryview(b"{}"), 5, object()])
@pytest.mark.parametrize("headers", [None, [("Retry-After", "7")], [(b"retry-after", b"7")], ["ab", "c"], 5])
@pytest.mark.parametrize("status", [500, "503", "five", None])
def test_whatever_a_client_hands_over(body: Any, headers: Any, status: Any) -> None:
    """An error comes of any body, of headers as a mapping or as pairs, and of a status as text."""
    error = error_from_response(status, body, headers)
    assert error.error_detail.details.get("retry_after") == (
        7 if isinstance(headers, list) and len(headers) == 1 else None
    )
    if status in {500, "503"}:
        assert error.error_code == "SERVICE_UNAVAILABLE"
        assert error.error_detail.details["status_code"] == int(status)


def test_a_body_in_a_view_is_read() -> None:
    """A memoryview of our own body gives the error in it."""
    assert (
        error_from_response(404, memoryview(b'{"error": {"code": "CLASS_NOT_FOUND"}}')).error_code == "CLASS_NOT_FOUND"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"traceparent": f"00-{'0' * 32}-{'0' * 16}-01"},
        {"traceparent": f"00-{'a' * 32}-{'0' * 16}-01"},
        {"X-Trace-ID": "0" * 32, "X-Span-ID": "b" * 16},
    ],
)
def test_zeros_are_no_trace(headers: dict[str, str]) -> None:
    """Ids of zeros alone, which W3C forbids, are not taken over."""
    detail = error_from_response(500, b"", headers).error_detail
    assert (detail.trace_id, detail.span_id) == (None, None)
