"""`RequestContextMiddleware` around a FastAPI and a Quart application, and `HuleEduApp`."""

import gc
import weakref
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import FastAPI, WebSocket
from opentelemetry.trace import NoOpTracer
from quart import Quart

from huleedu_service_libs.middleware.frameworks import fastapi_metrics_middleware, fastapi_middleware
from huleedu_service_libs.middleware.request_context import SCOPE_KEY, RequestContextMiddleware
from huleedu_service_libs.observability import get_current_trace_id
from huleedu_service_libs.quart_app import HuleEduApp

from .applications import http_scope, make_fastapi

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def _seen() -> dict[str, Any]:
    return {"trace_id": get_current_trace_id(), **structlog.contextvars.get_contextvars()}


def _fastapi() -> Any:
    app = FastAPI()

    @app.get("/seen")
    async def seen() -> dict[str, Any]:
        return _seen()

    return RequestContextMiddleware(app)


def _quart() -> Any:
    app = Quart(__name__)

    @app.get("/seen")
    async def seen() -> dict[str, Any]:
        return _seen()

    return RequestContextMiddleware(app.asgi_app)  # type: ignore[arg-type]  # Quart types every ASGI event


APPLICATIONS = pytest.mark.parametrize("make", [_fastapi, _quart])


async def _get(app: Any, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        return await client.get("/seen", headers=headers)


@APPLICATIONS
async def test_ids_of_the_request_are_current_inside_and_returned(make: Any) -> None:
    """Both frameworks see the given correlation id and trace, and answer with them."""
    given = "6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b"
    answer = await _get(make(), **{"X-Correlation-ID": given, "traceparent": TRACEPARENT})
    assert answer.json() == {"trace_id": TRACE, "correlation_id": given}
    assert answer.headers["X-Correlation-ID"] == given
    assert answer.headers["X-Trace-ID"] == TRACE


@APPLICATIONS
@pytest.mark.parametrize("given", ["", "has spaces", "x" * 200, "<script>", "-starts-with-dash"])
async def test_unacceptable_ids_are_replaced(make: Any, given: str) -> None:
    """What could not stand safely in a log gives way to a new UUID; a missing trace begins anew."""
    answer = await _get(make(), **({"X-Correlation-ID": given} if given else {}))
    assert str(UUID(answer.headers["X-Correlation-ID"])) == answer.headers["X-Correlation-ID"]
    assert answer.json()["correlation_id"] == answer.headers["X-Correlation-ID"]
    assert len(answer.headers["X-Trace-ID"]) == 32
    assert answer.json()["trace_id"] == answer.headers["X-Trace-ID"] != TRACE


async def test_nothing_remains_after_the_request() -> None:
    """Log context and trace of a request end with it."""
    await _get(_fastapi(), **{"X-Correlation-ID": "abc", "traceparent": TRACEPARENT})
    assert _seen() == {"trace_id": None}


async def test_other_scopes_pass_untouched() -> None:
    """Lifespan events reach the application as they are."""
    seen = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(dict(scope))

    await RequestContextMiddleware(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]  # unused here
    assert seen == [{"type": "lifespan"}]


async def test_a_websocket_has_its_ids_too() -> None:
    """The acceptance carries the ids, the scope the correlation id."""
    app = FastAPI()
    scopes = []

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        scopes.append(socket.scope[SCOPE_KEY])
        await socket.accept()
        await socket.close()

    sent: list[Any] = []
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-correlation-id", b"abc"), (b"traceparent", TRACEPARENT.encode())]
    scope = {"type": "websocket", "path": "/ws", "headers": headers, "query_string": b"", "subprotocols": []}
    await RequestContextMiddleware(app)(scope, receive, send)
    assert scopes == ["abc"]
    assert dict(sent[0]["headers"])[b"x-trace-id"] == TRACE.encode()


def test_a_new_application_has_its_places() -> None:
    """`HuleEduApp` has every attribute that services set, the required ones absent until they do."""
    app = HuleEduApp("svc")
    assert isinstance(app, Quart)
    assert not hasattr(app, "database_engine")
    assert not hasattr(app, "container")
    assert app.extensions == {}
    for name in (
        "tracer",
        "consumer_task",
        "kafka_consumer",
        "event_publisher",
        "relay_worker",
        "consumer_monitor_task",
        "relay_task",
    ):
        assert getattr(app, name) is None
    assert app._consumer_shutdown_requested is False
    app.timeout_monitor = object()  # type: ignore[attr-defined]  # services add more


async def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """Servers' objects hold the scope, and what the layer puts there holds them no longer once the application has returned."""

    class Cycle:
        """As a server has one for each request."""

        def __init__(self) -> None:
            self.scope = http_scope("/v1/essays/1")

        async def receive(self) -> Any:
            return {"type": "http.disconnect"}

        async def send(self, message: Any) -> None: ...

    app = make_fastapi()
    fastapi_metrics_middleware.setup_standard_service_metrics_middleware(app, "svc")
    fastapi_middleware.setup_tracing_middleware(app, NoOpTracer())
    asked: list[weakref.ref[Cycle]] = []
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            cycle = Cycle()
            asked.append(weakref.ref(cycle))
            await app(cycle.scope, cycle.receive, cycle.send)
            del cycle
        assert not [ref for ref in asked if ref() is not None]
    finally:
        gc.enable()
