"""`HuleEduError` and the detail that it carries."""

import copy
import pickle
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from common_core import ErrorCode
from common_core.error_enums import IdentityErrorCode
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context

CORRELATION = uuid4()


def _error(**details: object) -> HuleEduError:
    return HuleEduError(
        create_error_detail_with_context(
            ErrorCode.VALIDATION_ERROR, "Nope", "svc", "op", CORRELATION, dict(details), capture_stack=False
        )
    )


def test_text_and_properties() -> None:
    """Text, representation and properties are those that services log and assert on."""
    error = _error()
    assert str(error) == "[VALIDATION_ERROR] Nope"
    assert repr(error) == (
        f"HuleEduError(code=VALIDATION_ERROR, message=Nope, service=svc, operation=op, correlation_id={CORRELATION})"
    )
    assert (error.correlation_id, error.error_code, error.service, error.operation) == (
        str(CORRELATION),
        "VALIDATION_ERROR",
        "svc",
        "op",
    )
    assert type(error).__module__ == "huleedu_service_libs.error_handling.huleedu_error"


def test_to_dict_keeps_objects() -> None:
    """The correlation id stays a UUID and the code equals its text."""
    content = _error(a=1).to_dict()
    assert content["error"] == "[VALIDATION_ERROR] Nope"
    detail = content["error_detail"]
    assert type(detail["correlation_id"]) is UUID
    assert detail["correlation_id"] == CORRELATION
    assert detail["error_code"] is ErrorCode.VALIDATION_ERROR
    assert detail["error_code"] == "VALIDATION_ERROR"
    assert detail["details"] == {"a": 1}


def test_adding_a_detail_makes_a_new_error() -> None:
    """The original stays unchanged."""
    first = _error(a=1)
    second = first.add_detail("b", 2)
    assert first.error_detail.details == {"a": 1}
    assert second.error_detail.details == {"a": 1, "b": 2}


def test_errors_survive_pickle_and_copy() -> None:
    """An error can go to another process and back."""
    error = _error(a=1)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301  # our own bytes
        assert twin.error_detail == error.error_detail


def test_a_subclass_may_fix_its_code() -> None:
    """A class attribute overrides the property; construction does not assign it."""

    class FixedError(HuleEduError):
        error_code = "MINE"

    assert FixedError(_error().error_detail).error_code == "MINE"


def test_stack_of_the_active_exception_or_of_the_caller() -> None:
    """Inside an except block the traceback is taken, outside the stack, and nothing when it is not wanted."""
    outside = create_error_detail_with_context(IdentityErrorCode.ACCOUNT_LOCKED, "m", "s", "o")
    assert "test_stack_of_the_active_exception" in (outside.stack_trace or "")
    try:
        _ = dict[str, int]()["boom"]
    except KeyError:
        inside: str | None = create_error_detail_with_context(ErrorCode.UNKNOWN_ERROR, "m", "s", "o").stack_trace
    else:
        inside = None
    assert "KeyError: 'boom'" in (inside or "")
    assert _error().error_detail.stack_trace is None
    assert outside.error_code.value == "IDENTITY_ACCOUNT_LOCKED"
    assert outside.timestamp.tzinfo is not None


def test_an_error_inside_a_span_is_recorded_once() -> None:
    """The span gets one exception event with the full class name, the status and the error's attributes."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with (
        pytest.raises(HuleEduError) as caught,
        tracer.start_as_current_span("work", record_exception=False, set_status_on_exception=False),
    ):
        raise _error(n=1, who=CORRELATION)
    (span,) = exporter.get_finished_spans()
    assert [event.name for event in span.events] == ["exception"]
    assert (span.events[0].attributes or {})["exception.type"] == (
        "huleedu_service_libs.error_handling.huleedu_error.HuleEduError"
    )
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "Nope")
    attributes = span.attributes or {}
    assert attributes["error.details.n"] == 1
    assert attributes["error.details.who"] == str(CORRELATION)
    assert attributes["error.code"] == "VALIDATION_ERROR"
    assert caught.value.error_detail.trace_id == format(span.context.trace_id, "032x") if span.context else False
