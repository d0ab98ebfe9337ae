"""Which requests get a span, and whose: repeated and late set-ups, what is left out, sampling, tracing that fails or is absent."""

from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY

from .applications import Make, ask, make_fastapi, make_quart
from .set_ups import only_span, set_up_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_a_repeated_set_up_makes_no_second_span(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Set-ups replace each other, and an application mounted inside leaves the span to the outer one."""
    app = set_up_tracing(set_up_tracing(make(), tracer), tracer)
    outer = FastAPI()
    outer.mount("/sub", app)
    await ask(app, "/v1/essays/1")
    await ask(set_up_tracing(outer, tracer), "/sub/v1/essays/1")
    assert len(exporter.get_finished_spans()) == 2


async def test_fastapis_own_spans_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a global provider newer FastAPI traces by itself; the application has one server span all the same."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    await ask(set_up_tracing(make_fastapi(), trace.get_tracer("svc")), "/v1/essays/1")
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /v1/essays/{essay_id}"]


async def test_health_and_metrics_have_no_spans(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """They and what is below them are not traced, also in an application that is mounted; what only begins alike is."""
    app = set_up_tracing(make(), tracer)
    for path in ("/healthz", "/healthz/ready", "/metrics", "/healthzy", "/v1/healthz"):
        answer = await ask(app, path)
        assert int(answer.headers["X-Trace-ID"], 16)
    outer = FastAPI()
    outer.mount("/sub", app)
    await ask(outer, "/sub/metrics")
    assert [(span.attributes or {})["url.path"] for span in exporter.get_finished_spans()] == [
        "/healthzy",
        "/v1/healthz",
    ]


async def test_what_is_not_traced_is_a_setting(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Other paths, or none at all; one without its slash is refused. Work inside makes no trace of its own."""
    app = set_up_tracing(make(), tracer, untraced=())
    await ask(app, "/metrics")
    assert only_span(exporter).name == "GET"
    set_up_tracing(app, tracer, untraced=["/v1"])
    answer = await ask(app, "/v1/essays/1")
    assert answer.headers["X-Trace-ID"] not in {
        f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()
    }
    assert len(exporter.get_finished_spans()) == 1
    with pytest.raises(ValueError, match="begins with a slash, such as /healthz, got 'metrics'"):
        set_up_tracing(app, tracer, untraced=["metrics"])


@pytest.mark.parametrize("step", ["on_start", "on_end"])
async def test_tracing_that_fails_costs_no_request(
    make: Make, step: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception of a span processor is counted and told once; requests are answered as ever."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no room for spans")

    processor = SimpleSpanProcessor(InMemorySpanExporter())
    monkeypatch.setattr(processor, step, fail)
    provider: Any = TracerProvider()
    provider.add_span_processor(processor)
    app = set_up_tracing(make(), provider.get_tracer("svc"))
    labels = {"step": step.removeprefix("on_")}
    before = REGISTRY.get_sample_value("http_spans_failed_total", labels) or 0
    for _ in range(3):
        assert (await ask(app, "/v1/essays/1")).status_code == 200
    assert (REGISTRY.get_sample_value("http_spans_failed_total", labels) or 0) - before == 3
    assert capsys.readouterr().out.count("http_span_failed") == 1


async def test_what_is_not_sampled_still_has_ids(make: Make) -> None:
    """The answer names the trace, marked as not sampled."""
    app = set_up_tracing(make(), TracerProvider(sampler=ALWAYS_OFF).get_tracer("svc"))
    answer = await ask(app, "/v1/essays/1")
    begin, _, flags = answer.headers["traceparent"].rpartition("-")
    assert begin == f"00-{answer.headers['X-Trace-ID']}-{answer.headers['X-Span-ID']}"
    assert not int(flags, 16) & 1


async def test_without_an_sdk_ids_travel_all_the_same(make: Make) -> None:
    """With the API alone the trace that came in is passed on, and one that did not begins here."""
    app = set_up_tracing(make(), trace.NoOpTracer())
    passed, begun = (
        await ask(app, "/v1/essays/1", headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}),
        await ask(app, "/v1/essays/1"),
    )
    assert passed.headers["X-Trace-ID"] == TRACE
    assert int(begun.headers["X-Trace-ID"], 16) != 0


async def test_a_late_set_up_works(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Also after the first request, in both frameworks."""
    for app in (make_fastapi(), make_quart()):
        await ask(app, "/v1/essays/1")
        await ask(set_up_tracing(app, tracer), "/v1/essays/1")
    assert len(exporter.get_finished_spans()) == 2
