"""Server spans of both frameworks: names, attributes, status, headers, and that every span ends."""

import asyncio
import time
from typing import Any
from unittest.mock import AsyncMock

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from prometheus_client import REGISTRY
from quart import Quart, g

from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.frameworks import fastapi_middleware, quart_middleware
from huleedu_service_libs.middleware.http_tracing import ServerSpans
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware
from huleedu_service_libs.observability import get_current_trace_id, trace_operation

from .applications import Make, ask, http_scope, make_fastapi, make_quart, open_websocket, template

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def set_up(app: Any, tracer: Tracer) -> Any:
    """The set-up function of the framework."""
    module: Any = quart_middleware if isinstance(app, Quart) else fastapi_middleware
    module.setup_tracing_middleware(app, tracer)
    return app


def only(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span there is."""
    (span,) = exporter.get_finished_spans()
    return span


async def test_the_span_of_a_request(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Named after method and template, below what came in, with the conventions' attributes and the services' own."""
    app = set_up(make(), tracer)
    answer = await ask(
        app,
        "/v1/essays/7?token=geheim&page=2",
        headers={"traceparent": TRACEPARENT, "X-Correlation-ID": "abc", "User-Agent": "me"},
    )
    span = only(exporter)
    assert (span.name, span.kind) == (f"GET {template(app)}", SpanKind.SERVER)
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    attributes = dict(span.attributes or {})
    milliseconds = attributes.pop("http.response_time_ms")
    assert isinstance(milliseconds, float)
    assert 0 < milliseconds < 60_000
    size = len(answer.content)
    assert attributes == {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.response.body.size": size,
        "http.route": template(app),
        "url.path": "/v1/essays/7",
        "url.query": "token=***&page=2",
        "url.scheme": "http",
        "server.address": "test",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "user_agent.original": "me",
        "network.protocol.version": "1.1",
        "correlation_id": "abc",
        "http.method": "GET",
        "http.scheme": "http",
        "http.host": "test",
        "http.target": "/v1/essays/7?token=***&page=2",
        "http.url": "http://test/v1/essays/7?token=***&page=2",
        "http.user_agent": "me",
        "http.query": "token=***&page=2",
        "http.status_code": 200,
        "http.response_content_length": size,
    }
    assert span.status.status_code is StatusCode.OK


async def test_the_answer_carries_the_ids(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Trace id, span id and ``traceparent`` of the server span, also on errors."""
    app = set_up(make(), tracer)
    for path in ("/v1/essays/1", "/v1/essays/1/broken", "/nothing"):
        headers = (await ask(app, path)).headers
        context = exporter.get_finished_spans()[-1].context
        assert context is not None
        assert headers["X-Trace-ID"] == f"{context.trace_id:032x}"
        assert headers["traceparent"] == f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        assert context.trace_flags.sampled
        assert headers["X-Span-ID"] == f"{context.span_id:016x}"


@pytest.mark.parametrize(
    ("path", "status", "code", "error_type"),
    [
        ("/v1/essays/1", 200, StatusCode.OK, None),
        ("/v1/essays/1/missing", 404, StatusCode.OK, None),
        ("/nothing", 404, StatusCode.UNSET, None),
        ("/v1/essays/1/broken", 500, StatusCode.ERROR, "500"),
    ],
)
async def test_only_5xx_is_the_servers_error(
    make: Make,
    tracer: Tracer,
    exporter: InMemorySpanExporter,
    path: str,
    status: int,
    code: StatusCode,
    error_type: str | None,
) -> None:
    """4xx leaves the span unmarked, also when an error of ours had marked it on its way."""
    await ask(set_up(make(), tracer), path)
    span = only(exporter)
    attributes = dict(span.attributes or {})
    assert attributes["http.response.status_code"] == status
    assert span.status.status_code is code
    assert attributes.get("error.type") == error_type


async def test_an_exception_is_recorded_once(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """One event, though several layers see it pass."""
    for handlers in (True, False):
        await ask(set_up(make(handlers=handlers), tracer), "/v1/essays/1/broken")
    spans = exporter.get_finished_spans()
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 2
    assert [event.name for event in spans[0].events] == ["exception"]
    assert len(spans[1].events) <= 1


async def test_an_unknown_path_names_no_span(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The span of a scanner is called by its method alone; invented methods are told apart as such."""
    app = set_up(make(), tracer)
    await ask(app, "/wp-login.php")
    await ask(app, "/wp-login.php", "HACK")
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["GET", "HTTP"]
    assert (spans[1].attributes or {})["http.request.method"] == "_OTHER"
    assert (spans[1].attributes or {})["http.request.method_original"] == "HACK"


async def test_a_group_of_one_error_is_that_error(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """A framework that handles a request in a task group does not hide what went wrong."""

    async def grouped(*_: Any) -> None:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [ExceptionGroup("inside", [KeyError("essay")])])

    edge = Edge(spans=ServerSpans(tracer), on_error=lambda _scope, error: told.append(error))
    told: list[Exception] = []
    with pytest.raises(ExceptionGroup):
        await RequestContextMiddleware(grouped, edge)(http_scope("/v1/essays/1"), AsyncMock(), AsyncMock())
    assert (only(exporter).attributes or {})["error.type"] == "KeyError"
    assert [type(error) for error in told] == [KeyError]


@pytest.mark.parametrize("rest", ["/stream", "/breaks"])
async def test_the_span_of_a_stream_ends(make: Make, tracer: Tracer, exporter: InMemorySpanExporter, rest: str) -> None:
    """When the last byte is out, and also when the stream breaks in the middle, which marks it."""
    await ask(set_up(make(), tracer), f"/v1/essays/1{rest}")
    span = only(exporter)
    assert span.end_time is not None
    assert (span.status.status_code is StatusCode.ERROR) == (rest == "/breaks")


async def test_the_span_of_a_cancelled_request_ends(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """A server that cancels, such as at its own shutdown, leaves no span open; nobody's error."""
    app = set_up(make(), tracer)

    async def never() -> Any:
        await asyncio.Event().wait()

    async def ignore(_message: Any) -> None: ...

    task = asyncio.create_task(app(http_scope("/v1/essays/1/slow"), never, ignore))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = only(exporter)
    assert (span.attributes or {})["error.type"] == "CancelledError"
    assert span.status.status_code is StatusCode.UNSET


async def test_the_span_of_a_client_that_leaves_ends(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """A disconnect in the middle of a stream ends the span."""
    app = set_up(make(), tracer)
    gone = asyncio.Event()
    incoming = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            gone.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        await asyncio.gather(app(http_scope("/v1/essays/1/stream"), receive, send), return_exceptions=True)
    assert only(exporter).end_time is not None


@pytest.mark.parametrize(("essay_id", "code"), [("1", StatusCode.OK), ("broken", StatusCode.ERROR)])
async def test_a_websocket_has_one_span(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter, essay_id: str, code: StatusCode
) -> None:
    """From handshake to end, with the template; the handshake's answer carries the ids."""
    app = set_up(make(), tracer)
    sent = await open_websocket(app, f"/v1/essays/{essay_id}/ws")
    span = only(exporter)
    assert span.name == f"GET {template(app, '/ws')}"
    assert span.status.status_code is code
    assert span.context is not None
    assert dict(sent[0]["headers"])[b"x-trace-id"] == f"{span.context.trace_id:032x}".encode()


async def test_spans_of_the_handler_are_below_it(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Whatever the service traces inside is a child of the server span and knows the correlation id."""
    app = FastAPI()

    @app.get("/work")
    async def work(request: Request) -> dict[str, Any]:
        with trace_operation(tracer, "inner"):
            return {"trace": request.state.trace_id, "span": request.state.span_id, "current": get_current_trace_id()}

    answer = await ask(set_up(app, tracer), "/work", headers={"X-Correlation-ID": "abc"})
    inner, server = exporter.get_finished_spans()
    assert inner.parent is not None
    assert server.context is not None
    assert inner.parent.span_id == server.context.span_id
    assert (inner.attributes or {})["correlation_id"] == "abc"
    seen = answer.json()
    assert seen["trace"] == seen["current"] == answer.headers["X-Trace-ID"]
    assert seen["span"] == answer.headers["X-Span-ID"]


async def test_background_work_does_not_lengthen_the_answer(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """What runs after the last byte is below the span, but no part of the response time."""
    app = FastAPI()

    took_ns = 0

    async def later() -> None:
        nonlocal took_ns
        began = time.perf_counter_ns()
        await asyncio.sleep(0.3)
        took_ns = time.perf_counter_ns() - began

    @app.get("/work")
    async def work(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "done"

    await ask(set_up(app, tracer), "/work")
    span = only(exporter)
    milliseconds = (span.attributes or {})["http.response_time_ms"]
    assert isinstance(milliseconds, float)
    whole_ns = (span.end_time or 0) - (span.start_time or 0)
    assert whole_ns >= 300_000_000
    assert milliseconds * 1e6 <= whole_ns - took_ns + 1e6  # two clocks, and a millisecond between them


async def test_quart_views_find_the_ids_in_g(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """``g`` has correlation id and span; a ``g.request_id`` of the service stands in for a missing header."""
    app = Quart("svc")

    @app.before_request
    async def name_request() -> None:
        g.request_id = "own-id"

    set_up(app, tracer)

    @app.get("/seen")
    async def seen() -> dict[str, Any]:
        recording = g.current_span is trace.get_current_span()
        return {"id": g.correlation_id, "recording": recording, "started": g.trace_start_time > 1e9}

    own, given = await ask(app, "/seen"), await ask(app, "/seen", headers={"X-Correlation-ID": "theirs"})
    assert own.json() == {"id": "own-id", "recording": True, "started": True}
    assert own.headers["X-Correlation-ID"] == "own-id"
    assert given.json()["id"] == given.headers["X-Correlation-ID"] == "theirs"
    assert [(span.attributes or {})["correlation_id"] for span in exporter.get_finished_spans()] == ["own-id", "theirs"]


async def test_a_hook_that_comes_later_names_the_request_too(tracer: Tracer) -> None:
    """Hooks that the service adds after the set-up are heard, each request once, and views without hooks find ``g`` filled."""
    app = Quart("svc")
    set_up(app, tracer)

    @app.get("/seen")
    async def seen() -> dict[str, Any]:
        return {"id": g.correlation_id, "hooks": len(app.before_request_funcs[None])}

    async def name_first() -> None:
        g.request_id = "first"

    async def name_second() -> None:
        g.request_id = "second"

    made = await ask(app, "/seen")
    assert made.json() == {"id": made.headers["X-Correlation-ID"], "hooks": 1}
    for hook, name, hooks in ((name_first, "first", 3), (name_second, "second", 4)):
        app.before_request_funcs[None].append(hook)
        named = await ask(app, "/seen")
        assert named.headers["X-Correlation-ID"] == name
        assert named.json() == {"id": name, "hooks": hooks}


async def test_a_repeated_set_up_makes_no_second_span(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Set-ups replace each other, and an application mounted inside leaves the span to the outer one."""
    app = set_up(set_up(make(), tracer), tracer)
    outer = FastAPI()
    outer.mount("/sub", app)
    await ask(app, "/v1/essays/1")
    await ask(set_up(outer, tracer), "/sub/v1/essays/1")
    assert len(exporter.get_finished_spans()) == 2


async def test_fastapis_own_spans_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a global provider newer FastAPI traces by itself; the application has one server span all the same."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    await ask(set_up(make_fastapi(), trace.get_tracer("svc")), "/v1/essays/1")
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /v1/essays/{essay_id}"]


async def test_health_and_metrics_have_no_spans(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """They and what is below them are not traced, also in an application that is mounted; what only begins alike is."""
    app = set_up(make(), tracer)
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
    app = make()
    module: Any = quart_middleware if isinstance(app, Quart) else fastapi_middleware
    module.setup_tracing_middleware(app, tracer, untraced=())
    await ask(app, "/metrics")
    assert only(exporter).name == "GET"
    module.setup_tracing_middleware(app, tracer, untraced=["/v1"])
    answer = await ask(app, "/v1/essays/1")
    assert answer.headers["X-Trace-ID"] not in {
        f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()
    }
    assert len(exporter.get_finished_spans()) == 1
    with pytest.raises(ValueError, match="begins with a slash, such as /healthz, got 'metrics'"):
        module.setup_tracing_middleware(app, tracer, untraced=["metrics"])


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
    app = set_up(make(), provider.get_tracer("svc"))
    labels = {"step": step.removeprefix("on_")}
    before = REGISTRY.get_sample_value("http_spans_failed_total", labels) or 0
    for _ in range(3):
        assert (await ask(app, "/v1/essays/1")).status_code == 200
    assert (REGISTRY.get_sample_value("http_spans_failed_total", labels) or 0) - before == 3
    assert capsys.readouterr().out.count("http_span_failed") == 1


async def test_what_is_not_sampled_still_has_ids(make: Make) -> None:
    """The answer names the trace, marked as not sampled."""
    app = set_up(make(), TracerProvider(sampler=ALWAYS_OFF).get_tracer("svc"))
    answer = await ask(app, "/v1/essays/1")
    begin, _, flags = answer.headers["traceparent"].rpartition("-")
    assert begin == f"00-{answer.headers['X-Trace-ID']}-{answer.headers['X-Span-ID']}"
    assert not int(flags, 16) & 1


async def test_without_an_sdk_ids_travel_all_the_same(make: Make) -> None:
    """With the API alone the trace that came in is passed on, and one that did not begins here."""
    app = set_up(make(), trace.NoOpTracer())
    passed, begun = await ask(app, "/v1/essays/1", headers={"traceparent": TRACEPARENT}), await ask(app, "/v1/essays/1")
    assert passed.headers["X-Trace-ID"] == TRACE
    assert int(begun.headers["X-Trace-ID"], 16) != 0


async def test_a_late_set_up_works(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Also after the first request, in both frameworks."""
    for app in (make_fastapi(), make_quart()):
        await ask(app, "/v1/essays/1")
        await ask(set_up(app, tracer), "/v1/essays/1")
    assert len(exporter.get_finished_spans()) == 2


@pytest.mark.parametrize("own", [True, False])
async def test_a_mounted_fastapi_without_handlers_answers_in_our_form(own: bool) -> None:  # noqa: FBT001
    """Errors of an application inside an application get the one form and end there; handlers of its own win."""
    app, inner = make_fastapi(), FastAPI()

    @inner.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    @inner.get("/number/{number}")
    async def number(number: int) -> int:
        return number

    if own:

        @inner.exception_handler(RuntimeError)
        async def handle(_request: Request, _error: RuntimeError) -> Any:
            from fastapi.responses import PlainTextResponse  # noqa: PLC0415

            return PlainTextResponse("mine", 418)

    app.mount("/sub", inner)
    transport = httpx.ASGITransport(app=app)  # raises what the application raises
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer, invalid = await http.get("/sub/broken"), await http.get("/sub/number/x")
    assert answer.status_code == (418 if own else 500)
    if not own:
        assert answer.json()["error"]["code"] == "UNKNOWN_ERROR"
    assert invalid.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_a_mounted_fastapi_may_be_served_by_itself_too() -> None:
    """It answers errors in our form there as well, with ids of its own, and the error ends there."""
    app, inner = make_fastapi(), FastAPI()

    @inner.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    app.mount("/sub", inner)
    mounted = await ask(app, "/sub/broken")
    transport = httpx.ASGITransport(app=inner)  # raises what the application raises
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        alone = await http.get("/broken")
    assert mounted.json()["error"]["code"] == alone.json()["error"]["code"] == "UNKNOWN_ERROR"
    assert alone.json()["error"]["correlation_id"] == alone.headers["X-Correlation-ID"]
