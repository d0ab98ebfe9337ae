"""The same service in both frameworks, with every kind of route, for tests of what is seen from outside."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from fastapi import APIRouter, FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse
from quart import Quart, request, websocket

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling import ErrorContext, HuleEduError
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi
from huleedu_service_libs.error_handling.quart import register_error_handlers as register_quart
from huleedu_service_libs.logging_utils import current_log_context
from huleedu_service_libs.observability import get_current_trace_id
from huleedu_service_libs.observability.current import CORRELATION_ID

Incoming = list[dict[str, Any]]


async def _halves() -> AsyncIterator[bytes]:
    yield b"first "
    yield b"second"


async def _breaking() -> AsyncIterator[bytes]:
    yield b"first "
    raise RuntimeError("in mid-stream")


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"data: x\n\n"
        await asyncio.sleep(0.01)


class Alarm(BaseException):
    """What no ``except Exception`` catches."""


async def essay(essay_id: str) -> dict[str, str]:
    """Answers."""
    return {"essay": essay_id}


async def missing(essay_id: str) -> str:
    """Has no such essay."""
    raise HuleEduError(ErrorContext.current().detail(ErrorCode.RESOURCE_NOT_FOUND, "No such essay"))


async def broken(essay_id: str) -> str:
    """Has a bug."""
    raise RuntimeError("boom")


async def slow(essay_id: str) -> str:
    """Never answers."""
    await asyncio.Event().wait()
    return ""


async def alarm(essay_id: str) -> str:
    """Raises what is no ``Exception``."""
    raise Alarm


async def cancelled(essay_id: str) -> str:
    """Ends as if somebody had cancelled it."""
    raise asyncio.CancelledError


async def lasting(essay_id: str) -> str:
    """Answers after a second."""
    await asyncio.sleep(1)
    return essay_id


async def context(essay_id: str) -> dict[str, Any]:
    """Tells what is current in the middle of a request, while others run."""
    before = CORRELATION_ID.get()
    await asyncio.sleep(0.01)
    return {
        "before": before,
        "after": CORRELATION_ID.get(),
        "logged": current_log_context().get("correlation_id"),
        "trace": get_current_trace_id(),
        "path": ErrorContext.current().coordinates["path"],
    }


VIEWS: dict[str, Any] = {
    "": essay,
    "/missing": missing,
    "/broken": broken,
    "/slow": slow,
    "/alarm": alarm,
    "/cancelled": cancelled,
    "/lasting": lasting,
    "/context": context,
}
"""What both frameworks can serve as it is, by the rest of the path."""


def make_fastapi(*, handlers: bool = True) -> FastAPI:  # noqa: C901  # one function a route
    """FastAPI; the routes stand in a router that is included with a prefix."""
    app = FastAPI(title="svc")
    routes = APIRouter(prefix="/essays")
    if handlers:
        register_fastapi(app, http_exceptions=True)
    for rest, view in VIEWS.items():
        routes.get("/{essay_id}" + rest)(view)

    @routes.get("/{essay_id}/stream")
    async def stream(essay_id: str) -> StreamingResponse:
        return StreamingResponse(_halves())

    @routes.get("/{essay_id}/breaks")
    async def breaks(essay_id: str) -> StreamingResponse:
        return StreamingResponse(_breaking())

    @routes.get("/{essay_id}/endless")
    async def endless(essay_id: str) -> StreamingResponse:
        return StreamingResponse(_endless(), media_type="text/event-stream")

    @routes.post("/{essay_id}/upload")
    async def upload(request: Request, essay_id: str) -> int:
        return sum([len(chunk) async for chunk in request.stream()])

    @routes.post("/{essay_id}")
    async def put(essay_id: str) -> str:
        return essay_id

    @routes.websocket("/{essay_id}/ws")
    async def echo(socket: WebSocket, essay_id: str) -> None:
        await socket.accept()
        if essay_id == "broken":
            raise RuntimeError("after accept")
        await socket.close()

    @routes.websocket("/{essay_id}/listen")
    async def listen(socket: WebSocket, essay_id: str) -> None:
        if essay_id == "refused":
            await socket.close()
            return
        await socket.accept()
        while True:
            await socket.send_text(await socket.receive_text())

    app.include_router(routes, prefix="/v1")
    return app


def make_quart(*, handlers: bool = True) -> Quart:  # noqa: C901  # one function a route
    """Quart, the same paths."""
    app = Quart("svc")
    app.config["SERVICE_NAME"] = "svc"
    if handlers:
        register_quart(app)
    for rest, view in VIEWS.items():
        app.get(f"/v1/essays/<essay_id>{rest}")(view)

    @app.get("/v1/essays/<essay_id>/stream")
    async def stream(essay_id: str) -> Any:
        return _halves()

    @app.get("/v1/essays/<essay_id>/breaks")
    async def breaks(essay_id: str) -> Any:
        return _breaking()

    @app.get("/v1/essays/<essay_id>/endless")
    async def endless(essay_id: str) -> Any:
        return _endless(), {"Content-Type": "text/event-stream"}

    @app.post("/v1/essays/<essay_id>/upload")
    async def upload(essay_id: str) -> str:
        return str(sum([len(chunk) async for chunk in request.body]))

    @app.post("/v1/essays/<essay_id>")
    async def put(essay_id: str) -> str:
        return essay_id

    @app.websocket("/v1/essays/<essay_id>/ws")
    async def echo(essay_id: str) -> None:
        await websocket.accept()
        if essay_id == "broken":
            raise RuntimeError("after accept")

    @app.websocket("/v1/essays/<essay_id>/listen")
    async def listen(essay_id: str) -> Any:
        if essay_id == "refused":
            return "no", 403
        await websocket.accept()
        while True:
            await websocket.send(await websocket.receive())

    return app


def template(app: Any, rest: str = "") -> str:
    """How the framework writes the route of an essay."""
    return f"/v1/essays/{'<essay_id>' if isinstance(app, Quart) else '{essay_id}'}{rest}"


async def ask(
    app: Any, path: str, method: str = "GET", *, content: bytes | None = None, headers: dict[str, str] | None = None
) -> httpx.Response:
    """One request; what the application raises beyond its answer is left alone."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.request(method, path, headers=headers, content=content)


def http_scope(path: str, method: str = "GET", **more: Any) -> dict[str, Any]:
    """What a server hands over for a request."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": ("192.0.2.1", 5),
        "server": ("test", 80),
        **more,
    }


async def open_websocket(app: Any, path: str) -> Incoming:
    """Connect, and leave when the application has closed; everything that it sent."""
    scope = http_scope(path, scheme="ws", subprotocols=[])
    del scope["method"]
    scope["type"] = "websocket"
    sent: Incoming = []
    closed = asyncio.Event()
    incoming = [{"type": "websocket.connect"}]

    async def receive() -> Any:
        if incoming:
            return incoming.pop(0)
        await closed.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "websocket.close":
            closed.set()

    async with asyncio.timeout(10):
        await app(scope, receive, send)
    return sent


Make = Callable[..., Any]
