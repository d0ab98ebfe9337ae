"""One answer for all who ask the same at the same time, so that a flood of requests is one question to a server.

For what is asked on demand, such as the database's full report, which opens connections. Knows nothing of what is asked.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from huleedu_service_libs._tasks import attended

__all__ = ["Shared"]


class Shared:
    """Questions under way, by name."""

    def __init__(self) -> None:
        self._asked: dict[str, asyncio.Future[dict[str, Any]]] = {}

    async def get(self, name: str, ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """The answer under way under that name, else a new one; who is cancelled leaves it to the others."""
        asked = self._asked.get(name)
        if asked is None or asked.done() or asked.get_loop() is not asyncio.get_running_loop():
            asked = self._asked[name] = attended(_ask(ask), name=f"health:{name}")
        return await asyncio.shield(asked)


async def _ask(ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    return await ask()
