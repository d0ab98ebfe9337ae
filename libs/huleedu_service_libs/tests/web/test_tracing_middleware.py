"""Server spans of both frameworks: names, attributes, status, headers, and that every span ends."""

import asyncio
import time
from typing import Any
from unittest.mock import AsyncMock

import pytest
from fastapi import BackgroundTasks, FastAPI, Request
from opentelemetry import trace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer
from quart import Quart, g

from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.http_tracing import ServerSpans
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware
from huleedu_service_libs.observability import get_current_trace_id, trace_operation

from .applications import Make, ask, http_scope, open_websocket, template
from .set_ups import ignore, never, only_span, set_up_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


async def test_the_span_of_a_request(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """Named after method and template, below what came in, with the conventions' attributes and the services' own."""
    app = set_up_tracing(make(), tracer)
    answer = await ask(
        app,
        "/v1/essays/7?token=geheim&page=2",
        headers={"traceparent": TRACEPARENT, "X-Correlation-ID": "abc", "User-Agent": "me"},
    )
    span = only_span(exporter)
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
    app = set_up_tracing(make(), tracer)
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
    await ask(set_up_tracing(make(), tracer), path)
    span = only_span(exporter)
    attributes = dict(span.attributes or {})
    assert attributes["http.response.status_code"] == status
    assert span.status.status_code is code
    assert attributes.get("error.type") == error_type


async def test_a_token_in_the_path_is_in_no_attribute(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """Links for resets and invitations carry one; the span shows the path without it, and an id as it is."""
    app, token = set_up_tracing(make(), tracer), "Zx3-v9QkT_7bLw2YpR8sN4mHc6jDf1gA"
    await ask(app, f"/v1/essays/{token}")
    await ask(app, "/v1/essays/0b3f8a52-1c77-4b6e-9d38-2f1f0a6d9c11")
    secret, plain = (dict(span.attributes or {}) for span in exporter.get_finished_spans())
    assert token not in str(secret)
    assert (secret["url.path"], secret["http.target"]) == ("/v1/essays/***", "/v1/essays/***")
    assert plain["url.path"] == "/v1/essays/0b3f8a52-1c77-4b6e-9d38-2f1f0a6d9c11"


async def test_an_exception_is_recorded_once(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """One event, though several layers see it pass."""
    for handlers in (True, False):
        await ask(set_up_tracing(make(handlers=handlers), tracer), "/v1/essays/1/broken")
    spans = exporter.get_finished_spans()
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 2
    assert [event.name for event in spans[0].events] == ["exception"]
    assert len(spans[1].events) <= 1


async def test_an_unknown_path_names_no_span(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """The span of a scanner is called by its method alone; invented methods are told apart as such."""
    app = set_up_tracing(make(), tracer)
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
    assert (only_span(exporter).attributes or {})["error.type"] == "KeyError"
    assert [type(error) for error in told] == [KeyError]


@pytest.mark.parametrize("rest", ["/stream", "/breaks"])
async def test_the_span_of_a_stream_ends(make: Make, tracer: Tracer, exporter: InMemorySpanExporter, rest: str) -> None:
    """When the last byte is out, and also when the stream breaks in the middle, which marks it."""
    await ask(set_up_tracing(make(), tracer), f"/v1/essays/1{rest}")
    span = only_span(exporter)
    assert span.end_time is not None
    assert (span.status.status_code is StatusCode.ERROR) == (rest == "/breaks")


async def test_the_span_of_a_cancelled_request_ends(make: Make, tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """A server that cancels, such as at its own shutdown, leaves no span open; nobody's error."""
    app = set_up_tracing(make(), tracer)

    task = asyncio.create_task(app(http_scope("/v1/essays/1/slow"), never, ignore))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = only_span(exporter)
    assert (span.attributes or {})["error.type"] == "CancelledError"
    assert span.status.status_code is StatusCode.UNSET


async def test_the_span_of_a_client_that_leaves_ends(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter
) -> None:
    """A disconnect in the middle of a stream ends the span."""
    app = set_up_tracing(make(), tracer)
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
    assert only_span(exporter).end_time is not None


@pytest.mark.parametrize(("essay_id", "code"), [("1", StatusCode.OK), ("broken", StatusCode.ERROR)])
async def test_a_websocket_has_one_span(
    make: Make, tracer: Tracer, exporter: InMemorySpanExporter, essay_id: str, code: StatusCode
) -> None:
    """From handshake to end, with the template; the handshake's answer carries the ids."""
    app = set_up_tracing(make(), tracer)
    sent = await open_websocket(app, f"/v1/essays/{essay_id}/ws")
    span = only_span(exporter)
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

    answer = await ask(set_up_tracing(app, tracer), "/work", headers={"X-Correlation-ID": "abc"})
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
    answered_s = 0.0

    async def later() -> None:
        nonlocal answered_s
        answered_s = time.perf_counter()
        await asyncio.sleep(0.3)

    @app.get("/work")
    async def work(tasks: BackgroundTasks) -> str:
        tasks.add_task(later)
        return "done"

    asked_s = time.perf_counter()
    await ask(set_up_tracing(app, tracer), "/work")
    span = only_span(exporter)
    milliseconds = (span.attributes or {})["http.response_time_ms"]
    assert isinstance(milliseconds, float)
    assert (span.end_time or 0) - (span.start_time or 0) >= 290_000_000  # by a clock that may be set meanwhile
    assert milliseconds / 1000 <= answered_s - asked_s


async def test_quart_views_find_the_ids_in_g(tracer: Tracer, exporter: InMemorySpanExporter) -> None:
    """``g`` has correlation id and span; a ``g.request_id`` of the service stands in for a missing header."""
    app = Quart("svc")

    @app.before_request
    async def name_request() -> None:
        g.request_id = "own-id"

    set_up_tracing(app, tracer)

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
    set_up_tracing(app, tracer)

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
