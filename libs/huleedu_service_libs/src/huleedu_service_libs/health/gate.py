"""Counts the requests in flight, and refuses new ones once the service has said that it stops. Bare ASGI.

The adapters of both frameworks put it around the application. It costs one function call a request.
"""

from huleedu_service_libs._asgi import Application, Message, Receive, Scope, Send
from huleedu_service_libs._json import dumps
from huleedu_service_libs.health.drain import Drain
from huleedu_service_libs.health.metrics import REFUSED
from huleedu_service_libs.health.open_sockets import SERVICE_RESTART

__all__ = ["TrafficGate"]

_BODY = dumps({"error": "the service is stopping; another replica, or the same one later, will take the request"})
_CLOSE = (b"connection", b"close")


class TrafficGate:
    """Around one application.

    Args:
        app: The application.
        drain: Of the service.
        service_name: Label of the counter.
        exempt: The path that is always served and never waited for, with those below it: those of health.
    """

    def __init__(self, app: Application, drain: Drain, *, service_name: str, exempt: str) -> None:
        self._app = app
        self._drain = drain
        self._exempt, self._below = exempt, f"{exempt}/"
        self._refused = REFUSED.labels(service_name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan" or self._is_exempt(scope):
            await self._app(scope, receive, send)
        elif self._drain.refusing:
            await self._refuse(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._drain.sockets.serve(self._app, scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        drain = self._drain
        drain.in_flight += 1
        try:
            await self._app(scope, receive, self._closing(scope, send) if drain.begun else send)
        finally:
            drain.in_flight -= 1

    def _is_exempt(self, scope: Scope) -> bool:
        path: str = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        return path == self._exempt or path.startswith(self._below)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._drain.refused += 1
        self._refused.inc()
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": SERVICE_RESTART, "reason": "the service is stopping"})
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(_BODY)).encode()),
            (b"retry-after", b"1"),
        ]
        send = self._closing(scope, send)
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else _BODY})

    @staticmethod
    def _closing(scope: Scope, send: Send) -> Send:
        """Asks the client not to come back on this connection; HTTP/2 has no such header."""
        if not str(scope.get("http_version", "1.1")).startswith("1"):
            return send

        async def send_with_close(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        return send_with_close
