"""What uvicorn and hypercorn make of requests, and what metrics, spans and log say of them: clients leave, lie and insist."""

import asyncio
from typing import Any

import httpx
import pytest
import websockets
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode, Tracer
from quart import Quart

from ..waiting import until
from .applications import Make, template
from .numbers import count, interrupted, open_now, sessions, size
from .servers import LIMIT_S, SERVERS, say, served
from .set_ups import set_up_metrics, set_up_tracing

HEADERS = "Host: test\r\nConnection: close\r\n"


@pytest.fixture(name="app")
def _app(make: Make, tracer: Tracer) -> Any:
    """The service of these tests with everything that the layer around it does."""
    return set_up_tracing(set_up_metrics(make()), tracer)


@pytest.fixture(name="server", params=SERVERS)
def _server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def last(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span, once it has ended."""
    await until(exporter.get_finished_spans)
    (span,) = exporter.get_finished_spans()
    return span


async def leave_after(port: int, text: str) -> None:
    """Send what is no whole request, and go when the application has it."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    await until(open_now)
    writer.transport.abort()


async def test_a_client_that_leaves_in_its_body_is_nobodys_error(
    app: Any, server: str, exporter: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted as 499, the span is not failed, and the log has no error."""
    async with served(app, server) as port:
        begun = f"POST /v1/essays/1/upload HTTP/1.1\r\n{HEADERS}Content-Length: 1000\r\n\r\nabc"
        await leave_after(port, begun)
        span = await last(exporter)
    assert count(template(app, "/upload"), "499", "POST") == 1
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    assert open_now() == 0
    assert '"level":"error"' not in capsys.readouterr().out


async def test_a_client_that_leaves_a_stream_is_seen(app: Any, server: str, exporter: InMemorySpanExporter) -> None:
    """The answer keeps its status, and is counted among those that ended in their middle."""
    async with served(app, server) as port:
        await say(port, f"GET /v1/essays/1/endless HTTP/1.1\r\n{HEADERS}\r\n", until=b"data: x")
        span = await last(exporter)
    assert count(template(app, "/endless"), "200") == 1
    assert interrupted(template(app, "/endless"), "client") == 1
    assert (span.attributes or {})["error.type"] == "client_disconnected"
    assert span.status.status_code is not StatusCode.ERROR
    assert open_now() == 0


async def test_a_stream_that_breaks_is_seen(app: Any, server: str, exporter: InMemorySpanExporter) -> None:
    """The client had a 200, but the number of broken answers tells, and the span has failed."""
    async with served(app, server) as port:
        got = await say(port, f"GET /v1/essays/1/breaks HTTP/1.1\r\n{HEADERS}\r\n")
        span = await last(exporter)
    assert b" 200 " in got
    assert interrupted(template(app, "/breaks"), "error") == 1
    assert span.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("rest", ["/alarm", "/cancelled"])
async def test_what_no_handler_catches_is_the_servers_error(
    app: Any, server: str, exporter: InMemorySpanExporter, rest: str
) -> None:
    """The server answers 500 to a ``BaseException`` or a stray cancellation, and that is what is counted."""
    async with served(app, server) as port:
        got = await say(port, f"GET /v1/essays/1{rest} HTTP/1.1\r\n{HEADERS}\r\n")
        span = await last(exporter)
    assert b" 500 " in got
    assert count(template(app, rest), "500") == 1
    assert span.status.status_code is StatusCode.ERROR


async def test_an_answer_to_head_has_no_body(app: Any, server: str) -> None:
    """What the application wrote and the server kept back is not counted."""
    endpoint = template(app) if isinstance(app, Quart) else "/docs"
    async with served(app, server) as port:
        path = "/v1/essays/1" if isinstance(app, Quart) else "/docs"
        got = await say(port, f"HEAD {path} HTTP/1.1\r\n{HEADERS}\r\n")
        await until(lambda: count(endpoint, "200", "HEAD"))
    assert got.endswith(b"\r\n\r\n")
    assert size("response", endpoint, "HEAD") == 0


async def test_an_announced_length_is_not_simply_believed(app: Any, server: str) -> None:
    """A client that claims to send petabytes does not spoil the sum of sizes."""
    async with served(app, server) as port:
        await say(
            port,
            f"POST /v1/essays/1 HTTP/1.1\r\n{HEADERS}Content-Length: 9999999999999999\r\n\r\nabc",
            until=b"\r\n\r\n",
        )
        await until(lambda: count(template(app), "200", "POST") or count(template(app), "499", "POST"))
    assert (size("request", template(app), "POST") or 0) <= 3


async def test_nonsense_in_headers_does_no_harm(app: Any, server: str, exporter: InMemorySpanExporter) -> None:
    """Broken hosts, traces, baggage and ids are answered like any other request, with ids made here and no header of theirs."""
    nonsense = (
        "Host: [::1\r\nConnection: close\r\ntraceparent: 00-0-xyz\r\ntracestate: ,,=\r\nbaggage: %%%;;\r\n"
        f"X-Correlation-ID: a\tb\r\nUser-Agent: {'A' * 20_000}\r\n"
    )
    async with served(app, server) as port:
        path = "/v1/essays/%0d%0aX-Evil:1?correlation_id=%0d%0aX-Evil:%201"
        got = await say(port, f"GET {path} HTTP/1.1\r\n{nonsense}\r\n")
        span = await last(exporter)
    head = got.partition(b"\r\n\r\n")[0].lower()
    assert b" 200 " in got
    assert b"x-evil" not in head
    assert span.parent is None
    assert len(str((span.attributes or {})["user_agent.original"])) <= 2_048


@pytest.mark.parametrize("leaves", ["properly", "without a word"])
async def test_a_websocket_whose_client_leaves_went_well(
    app: Any, server: str, exporter: InMemorySpanExporter, capsys: pytest.CaptureFixture[str], leaves: str
) -> None:
    """Whether it says 1000 or nothing at all (1006): no failure of the service, in metrics, span and log."""
    async with served(app, server) as port:
        socket = await websockets.connect(f"ws://127.0.0.1:{port}/v1/essays/1/listen", proxy=None)
        await socket.send("a")
        assert await socket.recv() == "a"
        if leaves == "properly":
            await socket.close()
        else:
            socket.transport.abort()
        span = await last(exporter)
    assert sessions(template(app, "/listen"), "101") == 1
    assert span.status.status_code is StatusCode.OK
    assert not span.events
    assert open_now() == 0
    assert '"level":"error"' not in capsys.readouterr().out


@pytest.mark.parametrize(("path", "statuses"), [("/v1/essays/refused/listen", {403}), ("/nothing", {403, 404})])
async def test_a_refused_websocket_says_so(
    app: Any, server: str, exporter: InMemorySpanExporter, path: str, statuses: set[int]
) -> None:
    """The span has the status that the client got, and nothing stays open."""
    async with served(app, server) as port:
        with pytest.raises(websockets.InvalidStatus) as refusal:
            await websockets.connect(f"ws://127.0.0.1:{port}{path}", proxy=None)
        span = await last(exporter)
    status = refusal.value.response.status_code
    assert status in statuses
    assert (span.attributes or {})["http.response.status_code"] == status
    assert open_now() == 0


async def test_requests_do_not_see_each_other(app: Any, server: str) -> None:
    """A hundred at once, and one after the other over one connection: each has its own ids from beginning to end."""
    async with served(app, server) as port:
        url = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=LIMIT_S) as http:
            given = [f"id-{number}" for number in range(100)]
            paths = [f"/v1/essays/{each}/context" for each in given]
            asked = [http.get(path, headers={"X-Correlation-ID": own}) for own, path in zip(given, paths, strict=True)]
            answers = await asyncio.gather(*asked)
            later = await http.get("/v1/essays/x/context")
    for own, path, answer in zip(given, paths, answers, strict=True):
        seen = answer.json()
        assert seen["before"] == seen["after"] == seen["logged"] == answer.headers["X-Correlation-ID"] == own
        assert seen["trace"] == answer.headers["X-Trace-ID"]
        assert seen["path"] == path
    assert len({answer.headers["X-Trace-ID"] for answer in answers}) == 100
    assert later.json()["logged"] not in given
