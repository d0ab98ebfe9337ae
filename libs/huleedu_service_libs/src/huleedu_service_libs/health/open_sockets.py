"""The WebSockets of a service, which would outlast every drain: when traffic ends, each is told to come back elsewhere.

Servers differ in what they do at their end: uvicorn closes WebSockets with 1012, hypercorn cancels their handlers and the client
sees a failure. `gate` lets every WebSocket pass through here; `drain` says when.
"""

import asyncio

from huleedu_service_libs._asgi import Application, Message, Receive, Scope, Send
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["SERVICE_RESTART", "OpenSockets"]

SERVICE_RESTART = 1012
"""Close code of WebSockets, registered with IANA."""

_CLOSE_S = 2.0  # for one whose client does not read

logger = create_service_logger("huleedu_service_libs.health")


class OpenSockets:
    """Those that are open now."""

    def __init__(self) -> None:
        self._open: set[_Socket] = set()

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        """Run ``app`` for one WebSocket."""
        socket = _Socket(send)
        self._open.add(socket)
        try:
            await app(scope, receive, socket.send)
        finally:
            self._open.discard(socket)

    async def close(self) -> int:
        """Close all of them, and say how many there were. Their handlers see the client leave, and may still clean up."""
        closing = list(self._open)
        await asyncio.gather(*(socket.close() for socket in closing))
        return len(closing)


class _Socket:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._closed = False

    async def send(self, message: Message) -> None:
        """Pass on what the handler sends, as long as the socket is open; afterwards nobody is there to read it."""
        if self._closed:
            return
        self._closed = message["type"] == "websocket.close"
        await self._send(message)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        message = {"type": "websocket.close", "code": SERVICE_RESTART, "reason": "the service is stopping"}
        try:
            async with asyncio.timeout(_CLOSE_S):
                await self._send(message)
        except (OSError, RuntimeError, TimeoutError):
            pass  # it has ended meanwhile, or its client reads nothing
        except Exception as error:  # noqa: BLE001  # servers raise what they like; the drain of the others goes on
            logger.warning("drain_websocket_not_closed", **error_fields(error))
