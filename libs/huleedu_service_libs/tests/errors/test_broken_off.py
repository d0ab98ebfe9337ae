"""Errors when it is too late for an answer: half a body is out, or it is a WebSocket."""

import asyncio
import copy
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, WebSocket
from quart import Quart
from starlette.responses import StreamingResponse

from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi
from huleedu_service_libs.error_handling.quart import register_error_handlers as register_quart

from .applications import (
    CORRELATION,
    HEADERS,
    TRACE,
    OwnStatusError,
    ask,
    detail_of,
)


async def test_half_an_answer_is_cut_off() -> None:
    """Once bytes are out nothing can be repaired: the error goes on to the server, which closes the connection."""
    app = FastAPI()
    register_fastapi(app)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def parts() -> Any:
            yield b"one"
            raise ConnectionError("lost")

        return StreamingResponse(parts())

    with pytest.raises(ConnectionError):
        await ask(app, "/stream")


@pytest.mark.parametrize("kind", [ConnectionError, OwnStatusError])
async def test_half_an_answer_of_quart_is_logged(kind: type[Exception]) -> None:
    """A generator that fails after its first bytes leaves one line with the request's ids; the server gets the error."""
    app = Quart(__name__)
    app.config["SERVICE_NAME"] = "essay_service"
    register_quart(app)
    register_quart(app)

    @app.get("/stream")
    async def stream() -> Any:
        async def parts() -> Any:
            yield b"one"
            raise kind(detail_of())

        return parts()

    with structlog.testing.capture_logs() as lines, pytest.raises((kind, ExceptionGroup)) as caught:
        await ask(app, "/stream", **HEADERS)
    if isinstance(caught.value, ExceptionGroup):  # Quart 0.23 and later
        assert [type(error) for error in caught.value.exceptions] == [kind]
    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert (line["correlation_id"], line["log_level"]) == (CORRELATION, "error")
    if kind is ConnectionError:
        assert (line["trace.id"], line["error.operation"], line["error.service"]) == (
            TRACE,
            "GET /stream",
            "essay_service",
        )


async def test_a_stray_cancellation_of_quart_is_answered() -> None:
    """A view that awaits what somebody else has cancelled gets the answer of any error; it was not the request that ended."""
    app = Quart(__name__)
    register_quart(app)

    @app.get("/shared")
    async def shared() -> str:
        somebodys = asyncio.ensure_future(asyncio.sleep(60))
        asyncio.get_running_loop().call_soon(somebodys.cancel)
        await somebodys
        return "never"

    with structlog.testing.capture_logs() as lines:
        answer = await ask(app, "/shared", **HEADERS)
    assert answer.status_code == 500
    assert answer.json()["error"]["correlation_id"] == CORRELATION
    assert "StrayCancellationError" in str(lines)


@pytest.mark.parametrize(
    ("steps", "types"),
    [
        ("", ["close"]),
        ("accept", ["accept", "close"]),
        ("accept close", ["accept", "close"]),
        ("accept leave", ["accept"]),
    ],
)
@pytest.mark.parametrize("error", [ZeroDivisionError("hunter2"), OwnStatusError(detail_of())])
async def test_an_error_in_a_websocket_closes_it(steps: str, types: list[str], error: Exception) -> None:
    """Code 1011, as RFC 6455 says of unexpected conditions, unless it is closed already; one line with the ids."""
    app = FastAPI()
    register_fastapi(app)
    error = copy.copy(error)

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        if "accept" in steps:
            await socket.accept()
        if "close" in steps:
            await socket.close()
        raise error

    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        if "leave" in steps and message["type"] == "websocket.close":
            raise OSError
        sent.append(message)

    scope = {
        "type": "websocket",
        "path": "/ws",
        "headers": [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()],
        "query_string": b"",
        "subprotocols": [],
    }
    with structlog.testing.capture_logs() as lines:
        await app(scope, receive, send)
    assert [message["type"].removeprefix("websocket.") for message in sent] == types
    if "leave" not in steps:
        assert sent[-1]["code"] == (1000 if "close" in steps else 1011)
    (line,) = [line for line in lines if line["event"] == "request_failed"]
    assert (line["correlation_id"], line["status"]) == (CORRELATION, 500)
