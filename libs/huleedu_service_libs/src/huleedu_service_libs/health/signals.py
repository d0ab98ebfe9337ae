"""Puts the drain in front of the server's own handling of SIGTERM, where the server takes signals by itself.

For ``uvicorn module:app`` and the like, which close their sockets as soon as the signal comes. A service that runs its
server itself needs none of it: it awaits `ServiceHealth.stop_traffic` before it tells the server to stop.
"""

import asyncio
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from huleedu_service_libs._tasks import begin
from huleedu_service_libs.health.service import ServiceHealth

__all__ = ["drain_before_stop"]


def drain_before_stop(health: ServiceHealth, number: int = signal.SIGTERM) -> None:
    """Drain when the signal comes, and hand it to the server afterwards; a second one goes to the server at once.

    Call it in the application's start-up, on the main thread: the server has its handler by then.

    Args:
        health: Of the service.
        number: The signal.

    Raises:
        RuntimeError: The server handles it in a way that cannot be put off, as hypercorn does: pass hypercorn a
            ``shutdown_trigger`` that awaits ``stop_traffic()`` instead.
    """
    server = signal.getsignal(number)
    if not callable(server) or getattr(server, "__module__", "").startswith("asyncio"):
        raise RuntimeError(
            f"{signal.Signals(number).name} has no handler that can wait ({server!r}): await "
            "ServiceHealth.stop_traffic() where the server is told to stop, such as in its shutdown_trigger"
        )
    signal.signal(number, _Handler(health, server, asyncio.get_running_loop()))


class _Handler:
    def __init__(
        self, health: ServiceHealth, server: Callable[[int, FrameType | None], Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._health, self._server, self._loop = health, server, loop
        self._draining: asyncio.Task[None] | None = None
        self._came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal has come."""
        if self._came:
            self._server(number, frame)
            return
        self._came = True
        self._loop.call_soon_threadsafe(self._begin, number)

    def _begin(self, number: int) -> None:
        self._draining = begin(self._drain(number), name="health:drain")

    async def _drain(self, number: int) -> None:
        try:
            await self._health.stop_traffic()
        finally:
            self._server(number, None)
