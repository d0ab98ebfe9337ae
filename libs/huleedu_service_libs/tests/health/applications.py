"""The same service in both frameworks, with health."""

import asyncio
from typing import Any

from fastapi import FastAPI, WebSocket
from quart import Quart, websocket

from huleedu_service_libs.health import ServiceHealth
from huleedu_service_libs.middleware.frameworks import fastapi_health, quart_health


class Work:
    """A request that lasts until it is let go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.let_go = asyncio.Event()

    async def do(self) -> dict[str, str]:
        """Last."""
        self.entered.set()
        await self.let_go.wait()
        return {"work": "done"}


def make_fastapi(health: ServiceHealth, work: Work) -> Any:
    """FastAPI."""
    app = FastAPI()
    fastapi_health.setup_health(app, health)
    app.get("/work")(work.do)

    @app.websocket("/ws")
    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return app


def make_quart(health: ServiceHealth, work: Work) -> Any:
    """Quart."""
    app = Quart("svc")
    quart_health.setup_health(app, health)
    app.get("/work")(work.do)

    @app.websocket("/ws")
    async def echo() -> None:
        await websocket.accept()

    return app
