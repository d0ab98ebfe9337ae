"""Sections 8.1 to 8.3 and 8.6: the exception, its detail, what it leaves on a span, and the helpers of tests."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from common_core.error_enums import ErrorCode, IdentityErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs import error_handling
from huleedu_service_libs.error_handling import (
    HuleEduError,
    assert_raises_huleedu_error,
    create_error_detail_with_context,
    create_test_error_detail,
    create_test_huleedu_error,
    error_detail_factory,
    huleedu_error,
    testing,
)
from huleedu_service_libs.error_handling.testing import ErrorDetailMatcher
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

ID = UUID(int=7)
PATH = "huleedu_service_libs.error_handling.huleedu_error"


@pytest.mark.parametrize("wanted", signatures(8), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def detail(**details: Any) -> ErrorDetail:
    """A detail as services make it."""
    return create_error_detail_with_context(
        error_code=ErrorCode.TIMEOUT,
        message="late",
        service="svc",
        operation="op",
        correlation_id=ID,
        details=details,
        capture_stack=False,
    )


@pytest.mark.contract("8.1-module", "8.1-error-detail")
def test_the_class() -> None:
    """One class by both paths, with the path that traces are compared with, holding what it was given."""
    given = detail()
    assert (HuleEduError.__module__, huleedu_error.HuleEduError) == (PATH, HuleEduError)
    error = HuleEduError(given)
    assert isinstance(error, Exception)
    assert error.error_detail is given


@pytest.mark.contract("8.1-properties", "8.1-str", "8.1-repr")
def test_texts_of_an_error() -> None:
    """Four properties are strings; text and representation as asserted by services."""
    error = HuleEduError(detail())
    assert (error.correlation_id, error.error_code) == (str(ID), "TIMEOUT")
    assert (error.service, error.operation) == ("svc", "op")
    assert type(error.error_code) is str
    assert str(error) == "[TIMEOUT] late"
    expected = f"HuleEduError(code=TIMEOUT, message=late, service=svc, operation=op, correlation_id={ID})"
    assert repr(error).replace("'", "") == expected
    assert (
        HuleEduError(create_test_error_detail(IdentityErrorCode.TOKEN_INVALID)).error_code == "IDENTITY_TOKEN_INVALID"
    )


@pytest.mark.contract("8.1-to-dict")
def test_as_a_dictionary() -> None:
    """Two keys; inside, the id stays a UUID and the code compares equal to its text."""
    found = HuleEduError(detail(a=1)).to_dict()
    assert set(found) == {"error", "error_detail"}
    assert found["error"] == "[TIMEOUT] late"
    inner = found["error_detail"]
    assert (inner["correlation_id"], inner["error_code"], inner["details"]) == (ID, "TIMEOUT", {"a": 1})
    assert isinstance(inner["correlation_id"], UUID)


@pytest.mark.contract("8.1-add-detail", "8.1-subclass")
def test_more_details_and_subclasses() -> None:
    """A new error with one more; a subclass fixes its code with an attribute of the class."""
    error = HuleEduError(detail(a=1))
    more = error.add_detail("b", 2)
    assert more is not error
    assert (more.error_detail.details, error.error_detail.details) == ({"a": 1, "b": 2}, {"a": 1})
    assert type("Mine", (HuleEduError,), {"error_code": "MINE"})(detail()).error_code == "MINE"


def _span_of(**details: Any) -> ReadableSpan:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("work"):
        HuleEduError(detail(**details))
    (span,) = exporter.get_finished_spans()
    return span


@pytest.mark.contract("8.1-span-event", "8.1-span-status", "8.1-span-attributes", "8.1-span-details")
def test_what_an_error_leaves_on_its_span() -> None:
    """One event with the class's path, the status, six attributes, and one for each detail."""
    span = _span_of(text="t", number=3, share=0.5, yes=True, many=[1, 2], some_id=ID)
    (event,) = span.events
    assert (event.name, (event.attributes or {})["exception.type"]) == ("exception", f"{PATH}.HuleEduError")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "late")
    attributes = dict(span.attributes or {})
    expected = {"code": "TIMEOUT", "message": "late", "service": "svc", "operation": "op"}
    assert {name: attributes[f"error.{name}"] for name in expected} == expected
    assert (attributes["error"], attributes["correlation_id"]) == (True, str(ID))
    prefix = "error.details."
    found = {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}
    assert found == {
        "text": "t",
        "number": 3,
        "share": 0.5,
        "yes": True,
        "many": str([1, 2]),
        "some_id": str(ID),
    }


@pytest.mark.contract("8.2-no-status-code", "8.2-model-dump")
def test_what_identity_reads() -> None:
    """No status on the detail; its dump becomes JSON."""
    given = detail(a=1)
    assert getattr(given, "status_code", 400) == 400
    assert json.loads(json.dumps(given.model_dump(), default=str))["error_code"] == "TIMEOUT"


@pytest.mark.contract("8.3-paths", "8.3-correlation-id", "8.3-timestamp", "8.3-details")
def test_making_a_detail() -> None:
    """By either path; without an id a new one; the time is now and UTC."""
    make = create_error_detail_with_context
    assert error_detail_factory.create_error_detail_with_context is make
    first, second = (make(ErrorCode.TIMEOUT, "m", "s", "o") for _ in range(2))
    assert isinstance(first.correlation_id, UUID)
    assert first.correlation_id != second.correlation_id
    given: Any = str(ID)
    assert make(ErrorCode.TIMEOUT, "m", "s", "o", given).correlation_id == ID
    assert first.timestamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - first.timestamp) < timedelta(seconds=30)
    assert first.details == {}


@pytest.mark.contract("8.3-stack-of-exception", "8.3-stack-without-exception")
def test_stacks() -> None:
    """Of the active exception, else of the place; none when switched off."""
    make = create_error_detail_with_context
    assert "test_stacks" in (make(ErrorCode.TIMEOUT, "m", "s", "o").stack_trace or "")
    try:
        str(dict[str, int]()["lost"])
    except KeyError:
        assert "KeyError: 'lost'" in (make(ErrorCode.TIMEOUT, "m", "s", "o").stack_trace or "")
        assert make(ErrorCode.TIMEOUT, "m", "s", "o", capture_stack=False).stack_trace is None


@pytest.mark.contract("8.3-trace-ids")
def test_ids_of_the_trace() -> None:
    """32 and 16 hex digits of the span that is recording; none outside."""
    outside = detail()
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        inside = detail()
    context = span.get_span_context()
    assert (outside.trace_id, outside.span_id) == (None, None)
    assert (inside.trace_id, inside.span_id) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


@pytest.mark.contract("8.6-re-exports")
def test_helpers_are_handed_on() -> None:
    """Five names, the same objects."""
    for name in (
        "assert_raises_huleedu_error",
        "create_test_error_detail",
        "create_test_huleedu_error",
        "ErrorCapture",
        "ErrorDetailMatcher",
    ):
        assert getattr(error_handling, name) is getattr(testing, name)


@pytest.mark.contract("8.6-assert-passes")
def test_an_expected_error() -> None:
    """Swallowed, and readable after the block, by member and by text of the code."""
    error = HuleEduError(detail(a=1, b=2))
    with assert_raises_huleedu_error(ErrorCode.TIMEOUT, "svc", "op", "lat", {"a": 1}) as caught:
        raise error
    assert caught.error is error
    with assert_raises_huleedu_error(error_code=ErrorCode.TIMEOUT):
        raise error


@pytest.mark.contract("8.6-assert-fails")
@pytest.mark.parametrize(
    "expected",
    [
        {"error_code": ErrorCode.UNKNOWN_ERROR},
        {"error_code": ErrorCode.TIMEOUT, "service": "other"},
        {"error_code": ErrorCode.TIMEOUT, "operation": "other"},
        {"error_code": ErrorCode.TIMEOUT, "message_contains": "early"},
        {"error_code": ErrorCode.TIMEOUT, "details_contain": {"a": 2}},
        {"error_code": ErrorCode.TIMEOUT, "details_contain": {"c": None}},
    ],
    ids=lambda one: list(one)[-1] + str(list(one.values())[-1]),
)
def test_an_error_that_differs(expected: dict[str, Any]) -> None:
    """In whatever it differs, the test fails."""
    with pytest.raises(AssertionError), assert_raises_huleedu_error(**expected):
        raise HuleEduError(detail(a=1))


@pytest.mark.contract("8.6-assert-fails")
def test_nothing_or_another_type() -> None:
    """Both fail the test."""
    with pytest.raises(AssertionError), assert_raises_huleedu_error(ErrorCode.TIMEOUT):
        pass
    with pytest.raises(AssertionError), assert_raises_huleedu_error(ErrorCode.TIMEOUT):
        raise KeyError("x")


@pytest.mark.contract("8.6-test-detail", "8.6-test-error")
def test_details_and_errors_for_tests() -> None:
    """The defaults, no stack, an id as text, details; and the same inside of an error."""
    found = create_test_error_detail()
    assert (found.error_code, found.message, found.stack_trace) == (ErrorCode.UNKNOWN_ERROR, "Test error", None)
    assert (found.service, found.operation) == ("test_service", "test_operation")
    more = create_test_error_detail(ErrorCode.TIMEOUT, correlation_id=str(ID), details={"a": 1})
    assert (more.correlation_id, more.details) == (ID, {"a": 1})
    error = create_test_huleedu_error(ErrorCode.TIMEOUT, "late", correlation_id=ID)
    assert (type(error), str(error), error.correlation_id) == (HuleEduError, "[TIMEOUT] late", str(ID))


@pytest.mark.contract("8.6-matcher")
def test_the_matcher() -> None:
    """Nothing given fits everything; each field given must fit, details as a part."""
    given = detail(a=1, b=2)
    assert ErrorDetailMatcher().matches(given)
    assert ErrorDetailMatcher(
        error_code=ErrorCode.TIMEOUT, message="late", service="svc", operation="op", details={"a": 1}, correlation_id=ID
    ).matches(given)
    wrongs: tuple[dict[str, Any], ...] = (
        {"error_code": ErrorCode.UNKNOWN_ERROR},
        {"message": "lat"},
        {"service": "x"},
        {"operation": "x"},
        {"details": {"a": 2}},
        {"correlation_id": uuid4()},
    )
    for wrong in wrongs:
        assert not ErrorDetailMatcher(**wrong).matches(given)
