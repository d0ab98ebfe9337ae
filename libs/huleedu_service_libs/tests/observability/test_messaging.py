"""Spans of messages: who is their parent, what they link to, and that a message stays the same."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from huleedu_service_libs.idempotency_v2.delivery import context_of
from huleedu_service_libs.idempotency_v2.identity import identify
from huleedu_service_libs.observability import get_current_trace_id, get_tracer, trace_operation
from huleedu_service_libs.observability.messaging import now_ns, process_span, record_sends, send_span
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
STANDARD = (("event_id", b"7c0e5c52-9d6c-4a53-8f0e-9a1f5b7d1c11"), ("event_type", b"essay.v1"), ("trace_id", b"abc"))


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace and parent of a span."""
    assert span.parent is not None
    return f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}"


def links(span: ReadableSpan) -> list[tuple[str, str]]:
    """What a span links to."""
    return [(f"{each.context.trace_id:032x}", f"{each.context.span_id:016x}") for each in span.links]


def message(traceparent: str | None = SAMPLED["traceparent"], key: bytes | None = b"e-7") -> OutgoingMessage:
    """A message as the relay sends it."""
    own = () if traceparent is None else (("traceparent", traceparent.encode()),)
    return OutgoingMessage(topic="essays", value=b"{}", key=key, headers=(*STANDARD, *own))


def record(headers: Sequence[tuple[str, bytes]] = ()) -> Any:
    """A message as a consumer gets it."""
    return SimpleNamespace(
        topic="essays", partition=3, offset=42, value=b"{}", key=b"e-7", headers=(*STANDARD, *headers)
    )


def test_a_message_without_a_trace_gets_that_of_its_send_span(exporter: InMemorySpanExporter) -> None:
    """The span is a child of what is running, and the message continues it."""
    with trace_operation(get_tracer("t"), "request"), send_span("essays", {}, {"messaging.client.id": "c"}) as added:
        pass
    sent, request = exporter.get_finished_spans()
    assert (sent.name, sent.kind) == ("send essays", SpanKind.PRODUCER)
    assert sent.context is not None
    assert request.context is not None
    assert ids(sent)[1] == f"{request.context.span_id:016x}"
    assert added["traceparent"].split("-")[1:3] == [f"{sent.context.trace_id:032x}", f"{sent.context.span_id:016x}"]
    assert dict(sent.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "essays",
        "messaging.client.id": "c",
    }


def test_a_message_with_a_trace_keeps_it(exporter: InMemorySpanExporter) -> None:
    """The span joins that trace and links to it; nothing is added to the message."""
    with send_span("essays", SAMPLED, {}) as added:
        pass
    (sent,) = exporter.get_finished_spans()
    assert added == {}
    assert ids(sent) == (TRACE, PARENT)
    assert links(sent) == [(TRACE, PARENT)]


def test_a_failed_send_is_recorded(exporter: InMemorySpanExporter) -> None:
    """The error goes on, and the span tells it once."""
    with pytest.raises(OSError, match="gone"), send_span("essays", {}, {}):
        raise OSError("gone")
    (sent,) = exporter.get_finished_spans()
    assert sent.status.status_code is StatusCode.ERROR
    assert (sent.attributes or {})["error.type"] == "OSError"


def test_a_batch_has_a_span_in_each_sampled_trace(exporter: InMemorySpanExporter) -> None:
    """Messages that are not sampled, carry no trace or were held back have none; a failure is told."""
    unsampled = f"00-{TRACE}-{PARENT}-00"
    batch = [message(), message(unsampled), message(None), message(), message("nonsense"), message()]
    outcomes = [DeliveryOutcome()] * 3 + [DeliveryOutcome(error=OSError("gone"))] + [DeliveryOutcome()]
    outcomes.append(DeliveryOutcome(error=OSError("held back"), attempted=False))
    started = now_ns()
    record_sends(batch, outcomes, client_id="c", started_ns=started)
    fine, failed = exporter.get_finished_spans()
    assert ids(fine) == ids(failed) == links(fine)[0] == (TRACE, PARENT)
    assert fine.start_time == started
    assert (fine.attributes or {})["messaging.message.conversation_id"] == "abc"
    assert (fine.attributes or {})["messaging.batch.message_count"] == 6
    assert (fine.attributes or {})["messaging.kafka.message.key"] == "e-7"
    assert (failed.attributes or {})["error.type"] == "OSError"
    assert failed.status.status_code is StatusCode.ERROR


def test_what_is_sent_together_is_linked(exporter: InMemorySpanExporter) -> None:
    """The span of a message leads to the request that caused it and to the batch that it left in."""
    with trace_operation(get_tracer("relay"), "outbox publish"):
        record_sends([message()], [DeliveryOutcome()], client_id="c", started_ns=now_ns())
    sent, batch = exporter.get_finished_spans()
    assert batch.context is not None
    assert links(sent) == [(TRACE, PARENT), (f"{batch.context.trace_id:032x}", f"{batch.context.span_id:016x}")]


def test_a_processed_message_has_one_span(exporter: InMemorySpanExporter) -> None:
    """The consumer's span joins the message's trace, links to it and knows the place and the correlation id."""
    msg = record([("traceparent", SAMPLED["traceparent"].encode())])
    with context_of(identify(msg), msg), trace_operation(get_tracer("t"), "work"):
        assert get_current_trace_id() == TRACE
    work, processed = exporter.get_finished_spans()
    assert (processed.name, processed.kind) == ("process essays", SpanKind.CONSUMER)
    assert ids(processed) == links(processed)[0] == (TRACE, PARENT)
    attributes = dict(processed.attributes or {})
    assert attributes["messaging.kafka.offset"] == 42
    assert attributes["messaging.destination.partition.id"] == "3"
    assert attributes["messaging.message.conversation_id"] == "abc"
    assert attributes["messaging.operation.type"] == "process"
    assert (work.attributes or {})["correlation_id"] == "abc"


@pytest.mark.parametrize("headers", [[], [("traceparent", SAMPLED["traceparent"].encode())]])
def test_a_decorator_inside_a_runner_makes_no_second_span(
    exporter: InMemorySpanExporter, headers: list[tuple[str, bytes]]
) -> None:
    """Both make spans by themselves; together they make one, with or without a trace in the message."""
    msg = record(headers)
    place: dict[str, str | int] = {"messaging.destination.partition.id": "3", "messaging.kafka.offset": 42}
    runner = process_span(get_tracer("runner"), "essays", dict(SAMPLED) if headers else {}, place)
    with runner, context_of(identify(msg), msg):
        pass
    assert len(exporter.get_finished_spans()) == 1


def test_without_a_provider_the_trace_travels_on() -> None:
    """Nothing is recorded; what came in is current inside, and a message that is sent there carries it."""
    msg = record([("traceparent", SAMPLED["traceparent"].encode())])
    with context_of(identify(msg), msg), send_span("results", {}, {}) as added:
        assert get_current_trace_id() == TRACE
    assert added == SAMPLED
