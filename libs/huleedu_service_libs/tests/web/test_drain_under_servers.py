"""How real servers end when the service has drained: WebSockets are told, requests finish, nothing is cut off."""

import asyncio
from typing import Any

import httpx
import pytest
import websockets
from quart import Quart

from huleedu_service_libs.health import DrainConfig, HealthConfig, ServiceHealth
from huleedu_service_libs.middleware.frameworks import fastapi_health, quart_health

from .applications import Make
from .servers import LIMIT_S, SERVERS, served


@pytest.mark.parametrize("server", SERVERS)
async def test_websockets_are_told_and_requests_finish(
    make: Make, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Open WebSockets close with 1012, the request in flight is answered, the drain is complete, and the log has no error."""
    app = make()
    health = ServiceHealth("svc", config=HealthConfig(drain=DrainConfig(notice_s=0.2, limit_s=LIMIT_S)))
    (quart_health if isinstance(app, Quart) else fastapi_health).setup_health(app, health)
    answers = []

    async with health, served(app, server, before_stop=health.stop_traffic) as port:
        address = f"127.0.0.1:{port}/v1/essays/1"
        sockets = [await websockets.connect(f"ws://{address}/listen", proxy=None) for _ in range(5)]
        await sockets[0].send("a")
        assert await sockets[0].recv() == "a"
        await sockets[1].close()

        async def ask() -> None:
            async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_S) as http:
                answers.append((await http.get(f"http://{address}/lasting")).status_code)

        asking = asyncio.create_task(ask())
        while not health.drain.in_flight:
            await asyncio.sleep(0.01)
        assert len(health.drain.sockets) == 4

    await asking
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(socket.wait_closed() for socket in sockets))
    assert [socket.close_code for socket in sockets] == [1012, 1000, 1012, 1012, 1012]
    assert answers == [200]
    report = await health.stop_traffic()  # the same again
    assert (report.unfinished_requests, report.closed_websockets) == (0, 4)
    assert len(health.drain.sockets) == 0
    said = capsys.readouterr()
    assert '"level":"error"' not in said.out
    assert "Traceback" not in said.err


async def test_a_handler_that_goes_on_is_named_and_reaches_nobody() -> None:
    """Whoever ignores that its WebSocket was closed is waited for as long as the drain may take; what it sends goes nowhere."""
    drain = ServiceHealth("svc", config=HealthConfig(drain=DrainConfig(notice_s=0, limit_s=0.2))).drain
    sent, accepted, go_on = [], asyncio.Event(), asyncio.Event()

    async def stubborn(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        accepted.set()
        await go_on.wait()
        await send({"type": "websocket.send", "text": "late"})
        await send({"type": "websocket.close", "code": 1000})

    async def send(message: Any) -> None:
        sent.append((message["type"], message.get("code")))

    async def receive() -> Any:
        return {}

    serving = asyncio.create_task(drain.sockets.serve(stubborn, {}, receive, send))
    await accepted.wait()
    report = await drain.run()
    go_on.set()
    await serving
    assert (report.unfinished_requests, report.closed_websockets) == (1, 1)
    assert sent == [("websocket.accept", None), ("websocket.close", 1012)]
