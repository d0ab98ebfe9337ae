"""Section 10.3: the server span of a request, and the ids that it leaves on answers and in views."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from quart import Quart, g

from huleedu_service_libs.middleware.frameworks import fastapi_middleware, quart_middleware

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
Seen = dict[str, Any]


def make_quart(seen: Seen, tracer: trace.Tracer) -> Quart:
    """A view that looks at what it is given."""
    app = Quart("x")

    @app.before_request
    async def before() -> None:
        if "request_id" in seen:
            g.request_id = seen["request_id"]

    quart_middleware.setup_tracing_middleware(app, tracer)

    @app.get("/essays/<essay_id>")
    async def essay(essay_id: str) -> tuple[str, int]:
        seen.update({name: getattr(g, name) for name in ("correlation_id", "current_span", "trace_start_time")})
        seen["tokens"] = hasattr(g, "context_token") and hasattr(g, "span_token")
        seen["current"] = trace.get_current_span()
        return "text", int(essay_id)

    return app


def make_fastapi(seen: Seen, tracer: trace.Tracer) -> FastAPI:
    """The same."""
    app = FastAPI()
    fastapi_middleware.setup_tracing_middleware(app, tracer)

    @app.get("/essays/{essay_id}")
    async def essay(essay_id: int, request: Request) -> Response:
        seen["state"] = (request.state.trace_id, request.state.span_id)
        return Response("text", essay_id)

    return app


Make = Callable[[Seen, trace.Tracer], Any]
BOTH = pytest.mark.parametrize("make", [make_quart, make_fastapi], ids=["quart", "fastapi"])


async def ask(
    make: Make, path: str, seen: Seen | None = None, headers: dict[str, str] | None = None
) -> tuple[httpx.Response, ReadableSpan]:
    """One request: its answer and its span."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    app = make({} if seen is None else seen, provider.get_tracer("test"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        answer = await http.get(path, headers=headers)
    (span,) = exporter.get_finished_spans()
    return answer, span


@BOTH
@pytest.mark.contract("10.3-name", "10.3-parent", "10.3-attributes", "10.3-correlation-attribute")
async def test_the_span(make: Make) -> None:
    """Method and route, a server's, below what came in, with the services' attributes."""
    incoming = {"traceparent": f"00-{TRACE}-{PARENT}-01", "X-Correlation-ID": "abc-1", "User-Agent": "me"}
    _, span = await ask(make, "/essays/200?page=2", headers=incoming)
    assert re.fullmatch(r"GET /essays/[<{]essay_id[>}]", span.name)
    assert span.kind is SpanKind.SERVER
    assert span.parent is not None
    assert (f"{span.parent.trace_id:032x}", f"{span.parent.span_id:016x}") == (TRACE, PARENT)
    expected = {
        "http.method": "GET",
        "http.scheme": "http",
        "http.host": "test",
        "http.target": "/essays/200?page=2",
        "http.url": "http://test/essays/200?page=2",
        "http.user_agent": "me",
        "http.query": "page=2",
        "http.status_code": 200,
        "correlation_id": "abc-1",
    }
    attributes = dict(span.attributes or {})
    assert expected.items() <= attributes.items()
    milliseconds = attributes["http.response_time_ms"]
    assert isinstance(milliseconds, float)
    assert 0 < milliseconds < 60_000
    _, other = await ask(make, "/essays/200")
    assert "http.query" not in dict(other.attributes or {})


@pytest.mark.contract("10.3-content-length")
async def test_the_length_of_an_answer() -> None:
    """The span tells the length of the answer in bytes."""
    _, span = await ask(make_quart, "/essays/200")
    assert (span.attributes or {})["http.response_content_length"] == len("text")


@BOTH
@pytest.mark.contract("10.3-status")
@pytest.mark.parametrize(("status", "errs"), [(200, False), (404, False), (500, True), (503, True)])
async def test_the_status(make: Make, status: int, *, errs: bool) -> None:
    """5xx is the server's error; what a client did wrong is not."""
    _, span = await ask(make, f"/essays/{status}")
    assert (span.attributes or {})["http.status_code"] == status
    assert (span.status.status_code is StatusCode.ERROR) == errs
    if status == 200:
        assert span.status.status_code is StatusCode.OK


@BOTH
@pytest.mark.contract("10.3-headers", "10.3-fastapi-state")
async def test_ids_on_the_answer(make: Make) -> None:
    """Those of the server's span; FastAPI's views find them in the request's state."""
    seen: Seen = {}
    answer, span = await ask(make, "/essays/200", seen)
    assert span.context is not None
    ids = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
    assert (answer.headers["X-Trace-ID"], answer.headers["X-Span-ID"]) == ids
    assert re.fullmatch(f"00-{ids[0]}-{ids[1]}-0[13]", answer.headers["traceparent"])  # sampled; 2 is "random"
    assert seen.get("state", ids) == ids


@pytest.mark.contract("10.3-quart-correlation", "10.3-quart-g")
async def test_what_quart_keeps_in_g() -> None:
    """The header's id, else the service's own, else a new UUID; and the span that is current in the view."""
    for given, headers, expected in (
        ({"request_id": "own-1"}, {"X-Correlation-ID": "abc-1"}, "abc-1"),
        ({"request_id": "own-1"}, {}, "own-1"),
    ):
        seen: Seen = dict(given)
        await ask(make_quart, "/essays/200", seen, headers)
        assert seen["correlation_id"] == expected
    fresh: list[UUID] = []
    for _ in range(2):
        seen = {}
        _, span = await ask(make_quart, "/essays/200", seen)
        fresh.append(UUID(str(seen["correlation_id"])))
        assert seen["current_span"].get_span_context() == seen["current"].get_span_context() == span.context
        assert (seen["tokens"], seen["trace_start_time"] > 0) == (True, True)
    assert fresh[0] != fresh[1]
