"""The WebSocket side of *notify*: one user's notifications to one browser.

Knows Starlette's WebSocket and the followers of the library, nothing of essays.
Every message has an ``id``; a browser that was away sends the last one it saw,
and gets what it missed. While Redis is away the socket stays open and waits.
"""

import asyncio
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect
from prometheus_client import Counter, Gauge

from essay_pipeline.contracts import GONE_NOTIFICATION, READY_NOTIFICATION
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.redis_pubsub import HistoryGone, InvalidCursorError, Notification, UserNotifications

__all__ = ["UserSockets"]

_logger = create_service_logger("notify.sockets")

TRY_AGAIN_LATER = 1013
UNKNOWN_ID = 4400
_CLIENT_LEFT = "client_left"

CONNECTED = Gauge("essay_pipeline_websockets", "WebSockets that are open")
ENDED = Counter("essay_pipeline_websockets_ended", "WebSockets that ended, by cause", ["cause"])


class UserSockets:
    """Pump users' channels into their browsers.

    Args:
        notifications: Has them.
        most: Connections at the same time; further ones are told to try again later.
        send_seconds: A client that does not take a message within this time is disconnected.
    """

    def __init__(self, notifications: UserNotifications, *, most: int, send_seconds: float) -> None:
        self._notifications = notifications
        self._most = most
        self._send_seconds = send_seconds
        self._open = 0

    async def serve(self, socket: WebSocket, user_id: str, last_id: str | None = None) -> None:
        """Push the user's notifications until the client leaves or is too slow, or the server closes.

        Args:
            socket: Accepted already.
            user_id: Whose.
            last_id: Of the last message that the client has seen; ``None`` begins now.
        """
        if self._open >= self._most:
            await self._end(socket, "full", TRY_AGAIN_LATER)
            return
        self._open += 1
        CONNECTED.set(self._open)
        try:
            cause, code = await self._serve(socket, user_id, last_id)
        finally:
            self._open -= 1
            CONNECTED.set(self._open)
        await self._end(socket, cause, code)

    async def _serve(self, socket: WebSocket, user_id: str, last_id: str | None) -> tuple[str, int]:
        """Pump until it ends or the client has gone; why, and the close code."""
        pump = asyncio.create_task(self._pump(socket, user_id, last_id))
        gone = asyncio.create_task(_until_gone(socket))
        tasks = {pump, gone}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        error = None if pump.cancelled() else pump.exception()
        if not gone.cancelled() or isinstance(error, WebSocketDisconnect):
            return _CLIENT_LEFT, 0
        if isinstance(error, TimeoutError):
            return "too_slow", TRY_AGAIN_LATER
        if isinstance(error, InvalidCursorError):
            return "unknown_id", UNKNOWN_ID
        _logger.warning("subscription_lost", error=repr(error))
        return "subscription_lost", TRY_AGAIN_LATER

    async def _pump(self, socket: WebSocket, user_id: str, last_id: str | None) -> None:
        async with self._notifications.follow_user(user_id, after=last_id) as follower:
            await self._send(socket, {"event": READY_NOTIFICATION, "data": {"user_id": user_id}, "id": follower.id})
            async for item in follower:
                await self._send(socket, _message(item))

    async def _send(self, socket: WebSocket, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._send_seconds):
            await socket.send_json(message)

    async def _end(self, socket: WebSocket, cause: str, code: int) -> None:
        ENDED.labels(cause=cause).inc()
        _logger.info("websocket_ended", cause=cause)
        if cause == _CLIENT_LEFT:
            return
        try:
            async with asyncio.timeout(self._send_seconds):
                await socket.close(code, cause)
        except (RuntimeError, OSError, TimeoutError):
            return  # the client went first


def _message(item: Notification | HistoryGone) -> dict[str, Any]:
    if isinstance(item, HistoryGone):
        return {"event": GONE_NOTIFICATION, "data": {"missed": item.missed}, "id": item.id}
    return {**item.body, "id": item.id}


async def _until_gone(socket: WebSocket) -> None:
    """Read and drop what the client says until it leaves."""
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
