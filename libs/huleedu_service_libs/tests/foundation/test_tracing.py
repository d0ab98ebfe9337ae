"""Trace context: carried with and without an SDK, and spans around operations."""

from typing import Any
from uuid import UUID

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from huleedu_service_libs.observability import (
    add_event_to_span,
    extract_trace_context,
    get_current_span,
    get_current_trace_id,
    get_tracer,
    inject_trace_context,
    trace_operation,
    use_trace_context,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
CARRIER = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "a=b", "other": 1}


@pytest.fixture(name="exporter")
def _exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(name="tracer")
def _tracer(exporter: InMemorySpanExporter) -> trace.Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test")


def test_a_context_travels_without_an_sdk() -> None:
    """What came in is current inside the block, is injected again, and is gone afterwards."""
    carrier: dict[str, Any] = {}
    with use_trace_context(dict(CARRIER)):
        assert get_current_trace_id() == TRACE
        assert get_current_span() is None  # nobody records it
        inject_trace_context(carrier)
    assert carrier == {"traceparent": CARRIER["traceparent"], "tracestate": "a=b"}
    assert get_current_trace_id() is None


@pytest.mark.parametrize("carrier", [{}, {"traceparent": "nonsense"}, {"traceparent": 7}])
def test_a_carrier_without_a_context_changes_nothing(carrier: dict[str, Any]) -> None:
    """Absent, malformed or mistyped, there is no trace, and no error."""
    with use_trace_context(carrier):
        assert get_current_trace_id() is None
    assert not trace.get_current_span(extract_trace_context(carrier)).get_span_context().is_valid


def test_an_operation_is_a_span_below_the_context(tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    """The span continues the carried trace; numbers stay numbers, anything else is text."""
    with (
        use_trace_context(dict(CARRIER)),
        trace_operation(tracer, "work", {"n": 1, "none": None, "id": UUID(int=1)}) as span,
    ):
        assert get_current_span() is span
        add_event_to_span("halfway", {"k": "v"})
    (done,) = exporter.get_finished_spans()
    assert done.context is not None
    assert format(done.context.trace_id, "032x") == TRACE
    assert dict(done.attributes or {}) == {"n": 1, "none": "", "id": str(UUID(int=1))}
    assert [event.name for event in done.events] == ["halfway"]


def test_a_failing_operation_is_recorded_once(tracer: trace.Tracer, exporter: InMemorySpanExporter) -> None:
    """One exception event, status ERROR, and the exception goes on."""
    with pytest.raises(ValueError, match="boom"), trace_operation(tracer, "work"):
        raise ValueError("boom")
    (done,) = exporter.get_finished_spans()
    assert [event.name for event in done.events] == ["exception"]
    assert done.status.status_code is StatusCode.ERROR
    assert (done.attributes or {})["error.type"] == "ValueError"


def test_a_tracer_without_an_sdk() -> None:
    """Operations run all the same, and what they raise goes on; nothing is recorded."""
    with trace_operation(get_tracer("svc"), "work") as span:
        add_event_to_span("nobody records this")
    assert not span.is_recording()
    with pytest.raises(KeyError, match="essay"), trace_operation(get_tracer("svc"), "work"):
        raise KeyError("essay")
