"""An exception is recorded once on its way out: by a span event, by a log line, not by every layer."""

import asyncio
import copy
import pickle
import threading
from typing import Any
from uuid import uuid4

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_test_error_detail,
    create_test_huleedu_error,
    error_context,
    format_error_for_logging,
    log_failure_once,
    raise_validation_error,
)
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability import trace_operation
from huleedu_service_libs.observability.recording import claim_log, record_exception_once
from huleedu_service_libs.resilience import CircuitBreaker

from .applications import ask, failing, known, make_fastapi, make_quart


class _Traced:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = provider.get_tracer("test")

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {span.name: span for span in self._exporter.get_finished_spans()}

    def events(self) -> dict[str, list[str]]:
        return {name: [event.name for event in span.events] for name, span in self.spans.items()}


@pytest.fixture(name="traced")
def _traced() -> _Traced:
    return _Traced()


def _raise(**details: Any) -> None:
    raise_validation_error(service="s", operation="o", field="f", message="m", correlation_id=uuid4(), **details)


def test_nested_spans_record_once(traced: _Traced) -> None:
    """The innermost span has the event; the spans around it have the status, and no second event."""
    with pytest.raises(HuleEduError), trace_operation(traced.tracer, "outer"), trace_operation(traced.tracer, "inner"):
        _raise()
    assert traced.events() == {"inner": ["exception"], "outer": []}
    assert {span.status.status_code for span in traced.spans.values()} == {StatusCode.ERROR}


def test_other_exceptions_record_once_too(traced: _Traced) -> None:
    """A plain exception is recorded where it leaves first; the error that it becomes is another exception."""
    with pytest.raises(KeyError), trace_operation(traced.tracer, "outer"), trace_operation(traced.tracer, "inner"):
        raise KeyError("k")
    assert traced.events() == {"inner": ["exception"], "outer": []}


def test_spans_hold_no_secret(traced: _Traced) -> None:
    """Event, status and attributes of `trace_operation` are redacted, on every span that the exception passes."""
    text = "postgres://u:hunter2@h password=hunter2"
    with (
        pytest.raises(RuntimeError),
        trace_operation(traced.tracer, "outer", {"url": text, "api_key": "hunter2"}),
        trace_operation(traced.tracer, "inner"),
    ):
        raise RuntimeError(text)
    assert traced.events() == {"inner": ["exception"], "outer": []}
    assert all("hunter2" not in span.to_json() for span in traced.spans.values())
    assert {span.status.description for span in traced.spans.values()} == {"postgres://u:***@h password=***"}


def test_an_error_made_elsewhere_is_redacted_too(traced: _Traced) -> None:
    """An error that was made outside any span tells the first span its message, without secrets."""
    made = create_test_huleedu_error(message="postgres://u:hunter2@h")
    with pytest.raises(HuleEduError), trace_operation(traced.tracer, "s"):
        raise made
    assert traced.spans["s"].status.description == "postgres://u:***@h"
    assert "hunter2" not in traced.spans["s"].to_json()


def test_a_breaker_records_once_and_without_secrets(traced: _Traced) -> None:
    """What a call in a breaker's span raises is recorded once there, redacted, even when it records itself."""
    breaker = CircuitBreaker(name="b", tracer=traced.tracer)

    async def plain_error() -> None:
        raise RuntimeError("password=hunter2")

    async def own_error() -> None:
        raise create_test_huleedu_error(message="password=hunter2")

    for call in (plain_error, own_error):
        with pytest.raises((RuntimeError, HuleEduError)):
            asyncio.run(breaker.call(call))
    assert list(traced.events().values()) == [["exception"], ["exception"]]
    assert all("hunter2" not in span.to_json() for span in traced.spans.values())
    assert {span.status.description for span in traced.spans.values()} == {"password=***"}


def test_a_description_is_not_overwritten(traced: _Traced) -> None:
    """The first error says why the span failed; what it is turned into is a further event only."""
    with traced.tracer.start_as_current_span("s") as span:
        record_exception_once(span, ValueError("first"))
        record_exception_once(span, ValueError("second"))
    assert traced.spans["s"].status.description == "first"
    assert traced.events() == {"s": ["exception", "exception"]}


def test_an_exception_without_text_is_recorded(traced: _Traced) -> None:
    """An exception whose text cannot be had does not break its recording."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(BrokenError), trace_operation(traced.tracer, "s"):
        raise BrokenError
    assert traced.events() == {"s": ["exception"]}


def test_added_details_and_copies_record_nothing(traced: _Traced) -> None:
    """`add_detail`, copies and pickles of an error leave the span alone (defect 42)."""
    with traced.tracer.start_as_current_span("s"):
        error = create_test_huleedu_error(details={"a": 1})
        twins = [error.add_detail("b", 2), copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))]  # noqa: S301  # our own bytes
    assert traced.events() == {"s": ["exception"]}
    assert [twin.error_detail.details for twin in twins] == [{"a": 1, "b": 2}, {"a": 1}, {"a": 1}, {"a": 1}]


def test_what_the_span_says_is_redacted(traced: _Traced) -> None:
    """Status, event and attributes hold no secret."""
    with traced.tracer.start_as_current_span("s"):
        create_test_huleedu_error(message="token=hunter2", details={"password": "hunter2", "url": "x://u:hunter2@h"})
    span = traced.spans["s"]
    assert "hunter2" not in span.to_json()
    attributes = span.attributes or {}
    assert attributes["error.details.password"] == "***"
    assert attributes["error.details.url"] == "x://u:***@h"


class _OwnError(HuleEduError):
    def __init__(self, detail: ErrorDetail, extra: Any) -> None:
        super().__init__(detail)
        self.extra = extra


def test_subclasses_and_hostile_details_can_be_pickled() -> None:
    """A subclass with other arguments keeps its attributes; what cannot be pickled becomes plain (defect 39)."""
    error = _OwnError(create_test_error_detail(details={"lock": threading.Lock(), "n": 1}), extra=print)
    error.add_note("noted")
    twin = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
    assert type(twin) is _OwnError
    assert (twin.extra, twin.__notes__, twin.error_detail.details["n"]) == (print, ["noted"], 1)
    assert "lock" in twin.error_detail.details["lock"]
    assert copy.copy(error).error_detail is error.error_detail
    added = error.add_detail("x", 1)
    assert (type(added), added.extra) == (_OwnError, print)


@pytest.mark.parametrize("make", [make_fastapi, make_quart])
async def test_one_line_however_many_layers(make: Any) -> None:
    """Who has logged an error inside is the only one; the edge answers and stays silent."""
    logger = create_service_logger("inner")

    async def view() -> dict[str, Any]:
        try:
            with error_context("svc", "op"):
                raise KeyError("k")
        except HuleEduError as error:
            log_failure_once(logger, "it_failed", error, step=3)
            log_failure_once(logger, "it_failed_again", error)
            raise

    with structlog.testing.capture_logs() as lines:
        assert (await ask(make(view))).status_code == 500
    assert [line["event"] for line in lines if line["log_level"] == "error"] == ["it_failed"]
    assert lines[0]["error.code"] == "UNKNOWN_ERROR"
    assert lines[0]["step"] == 3


@pytest.mark.parametrize("make", [make_fastapi, make_quart])
async def test_a_request_in_a_span_has_one_event(traced: _Traced, make: Any) -> None:
    """A span around the request records what was raised in it once: as it was made, or at the edge."""
    for name, view in (("known", known(create_test_error_detail())), ("unknown", failing(KeyError("k")))):
        app = make(view)
        with trace_operation(traced.tracer, name):

            async def inside(scope: Any, receive: Any, send: Any, app: Any = app) -> None:
                await app(scope, receive, send)

            await ask(inside)
    assert traced.events() == {"known": ["exception"], "unknown": ["exception"]}


def test_log_fields() -> None:
    """Flat keys, scalars as they are, other values as text."""
    detail = create_test_error_detail(ErrorCode.TIMEOUT, details={"n": 1, "ok": True, "items": [1], "id": uuid4()})
    detail = detail.model_copy(update={"trace_id": "a" * 32, "span_id": "b" * 16})
    assert format_error_for_logging(detail) == {
        "error.code": "TIMEOUT",
        "error.message": "Test error",
        "error.service": "test_service",
        "error.operation": "test_operation",
        "error.timestamp": detail.timestamp.isoformat(),
        "correlation_id": str(detail.correlation_id),
        "trace.id": "a" * 32,
        "span.id": "b" * 16,
        "error.details.n": 1,
        "error.details.ok": True,
        "error.details.items": "[1]",
        "error.details.id": str(detail.details["id"]),
    }
    assert "trace.id" not in format_error_for_logging(create_test_error_detail())


def test_stacks_never_leave_the_process() -> None:
    """No dump of a detail holds the stack, whoever makes it; it is there for this process, and equality ignores it."""
    detail = create_test_error_detail(capture_stack=True)
    assert "test_recording" in (detail.stack_trace or "")
    assert detail.model_dump()["stack_trace"] is None
    assert "test_recording" not in detail.model_dump_json()
    assert "test_recording" not in str(HuleEduError(detail).to_dict())
    assert ErrorDetail(**detail.model_dump()) == detail
    assert detail != "something else"


def test_an_error_that_is_raised_again_is_told_once_in_each_trace() -> None:
    """A kept exception object, raised for two requests, is logged for both; layers of one request share a line."""
    kept = RuntimeError("always the same")
    claims = []
    for trace_id in (1, 1, 2, 2):
        span = trace.NonRecordingSpan(trace.SpanContext(trace_id, 7, is_remote=True))
        with trace.use_span(span):
            claims.append(claim_log(kept))
    claims.append(claim_log(kept))  # outside of any trace, as an outer loop logs
    assert claims == [True, False, True, False, False]
