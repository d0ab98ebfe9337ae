"""What a consumer tells: the values of its metrics, and its spans."""

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY

from huleedu_service_libs.kafka.consumer import Delivery, RetryPolicy, contexts

from ..waiting import until
from .conftest import EVENT_TYPE, Numbered, numbered
from .doubles import P0, FakeDriver, Letters, consuming, record

TRACE = "0af7651916cd43dd8448eb211c80319c"
QUICK = RetryPolicy(attempts=2, first_delay_s=0.001, longest_delay_s=0.01)


def value(name: str, **labels: str) -> float:
    """A sample of the consumer's metrics."""
    return REGISTRY.get_sample_value(f"huleedu_consumer_{name}", {"group": "g", **labels}) or 0.0


async def test_metrics_count_what_became_of_each_record() -> None:
    """Processed, dead-lettered, undecodable and unknown records, failures by kind, runs, and what is left to do."""
    known = {"topic": "t", "event_type": EVENT_TYPE}

    def look() -> dict[str, float]:
        undecoded = {"topic": "t", "event_type": "undecoded"}
        return {
            "processed": value("records_total", outcome="processed", **known),
            "dead": value("records_total", outcome="dead_letter", **known),
            "undecoded": value("records_total", outcome="dead_letter", **undecoded),
            "failed": value("failures_total", kind="failed", **known),
            "outage": value("failures_total", kind="outage", **known),
            "runs": value("handler_seconds_count", **known),
        }

    outages = 3

    async def handle(delivery: Delivery[Numbered]) -> None:
        nonlocal outages
        if delivery.data.number == 2:
            raise ValueError("never")
        if delivery.data.number == 3 and outages:
            outages -= 1
            raise ConnectionRefusedError

    before = look()
    records = [record(P0, n, key=b"%d" % n, value=b"no event" if n == 1 else b"") for n in range(5)]
    driver = FakeDriver({P0: records})
    async with consuming(driver, handle, publisher=Letters(), retry=QUICK, commit_interval_s=0.01):
        await until(lambda: driver.committed == {P0: 5})
        await until(lambda: value("lag_records", topic="t") == 0.0)
    assert {name: found - before[name] for name, found in look().items()} == {
        "processed": 3,
        "dead": 1,
        "undecoded": 1,
        "failed": 2,
        "outage": 3,
        "runs": 8,
    }
    assert value("in_flight") == value("buffered_records") == value("stuck_partitions") == 0.0


@pytest.fixture(name="spans")
def _spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is recorded."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(contexts, "spans_are_recorded", lambda: True)
    monkeypatch.setattr(contexts, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


async def test_each_run_is_a_span_in_the_trace_of_the_sender(spans: InMemorySpanExporter) -> None:
    """Kind consumer, child of the message's span, with its place; a run that fails is recorded as such; then it is over."""
    message = numbered("t", 7, traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    sent: Any = record(P0, 0, value=message.value)
    object.__setattr__(sent, "headers", tuple(message.headers))
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)
        if delivery.attempt == 1:
            raise RuntimeError("once")

    driver = FakeDriver({P0: [sent]})
    async with consuming(driver, handle, publisher=Letters(), retry=QUICK):
        await until(lambda: driver.committed == {P0: 1})
    first, second = spans.get_finished_spans()
    assert [span.context.span_id for span in (first, second) if span.context] == seen
    for span in (first, second):
        assert (span.name, span.kind) == ("process t", SpanKind.CONSUMER)
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == TRACE
        assert span.attributes is not None
        assert span.attributes["messaging.kafka.offset"] == 0
        assert span.attributes["messaging.consumer.group.name"] == "g"
        assert span.attributes["huleedu.event_type"] == EVENT_TYPE
    assert (first.status.status_code, second.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
