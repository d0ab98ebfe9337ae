"""Puts the console beside an application that has no mounts of its own, such as Quart's."""

from collections.abc import Awaitable, Callable

from huleedu_service_libs._asgi import Application, Receive, Scope, Send

__all__ = ["Mount"]


class Mount:
    """An ASGI application that hands one path and everything below it to another.

    ``app.asgi_app = Mount(app.asgi_app, "/console", console)`` in Quart; FastAPI and Starlette have ``app.mount``.

    Args:
        app: Gets everything else.
        path: Where, beginning with a slash.
        console: What is mounted.

    Raises:
        ValueError: The path is none.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], path: str, console: Application) -> None:
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"path={path!r} must begin with a slash, and not end with one")
        self._app = app
        self._path = path
        self._console = console

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        root = scope.get("root_path", "")
        path = scope.get("path", "")
        inner = path[len(root) :] if root and path.startswith(root) else path
        if scope["type"] == "http" and (inner == self._path or inner.startswith(f"{self._path}/")):
            await self._console({**scope, "root_path": root + self._path, "path": root + inner}, receive, send)
        else:
            await self._app(scope, receive, send)
