"""Honours the deadline that a request brings along. Pure ASGI.

Wraps a Quart or FastAPI application: whatever runs for the request sees what time is left
(``resilience.deadline.remaining``), so retries, time limits and clients downstream stop in time.
"""

from huleedu_service_libs._asgi import Application, Receive, Scope, Send
from huleedu_service_libs.resilience.deadline import deadline, seconds_of

__all__ = ["DeadlineMiddleware"]

_EXPIRED = b'{"error":"the deadline of the request has passed"}'


class DeadlineMiddleware:
    """Runs each request under the deadline of its header; one without time left is answered with 504 at once.

    Args:
        app: The application to wrap.
        default_s: For requests without the header; ``None`` gives them all the time in the world.
    """

    def __init__(self, app: Application, default_s: float | None = None) -> None:
        self._app = app
        self._default_s = default_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", [])}
        given = seconds_of(headers)
        seconds = self._default_s if given is None else given
        if seconds == 0:
            await send(
                {
                    "type": "http.response.start",
                    "status": 504,
                    "headers": [
                        (b"content-type", b"application/json"),
                        (b"content-length", str(len(_EXPIRED)).encode()),
                    ],
                }
            )
            await send({"type": "http.response.body", "body": _EXPIRED})
            return
        with deadline(seconds):
            await self._app(scope, receive, send)
