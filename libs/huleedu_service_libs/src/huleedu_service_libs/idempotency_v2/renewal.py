"""Keeps a claim alive for as long as its handler runs.

``consumer`` starts one for each handler whose claim can be renewed. Knows
neither Redis nor events, only when to renew and when to stop.
"""

import asyncio
from collections.abc import Awaitable, Callable

from huleedu_service_libs import _clock
from huleedu_service_libs.idempotency_v2.records import DEFAULT_PROCESSING_TTL_SECONDS

__all__ = ["Renewal"]

_INTERVAL_SECONDS = DEFAULT_PROCESSING_TTL_SECONDS / 3
_STOP_SECONDS = 5.0


class Renewal:
    """Renews a claim again and again, from now until `stop`.

    Args:
        renew: Renews once; ``False`` when there is nothing left to renew.
        sleep: Waits.
    """

    def __init__(self, renew: Callable[[], Awaitable[bool]], sleep: _clock.Sleep) -> None:
        self._renew = renew
        self._sleep = sleep
        self._ended = False
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        ended = False
        while not ended:
            await self._sleep(_INTERVAL_SECONDS)
            ended = not await self._renew() or self._ended

    async def stop(self) -> None:
        """End it, within seconds. A driver may lose a cancellation that comes with a reply; then the flag ends it."""
        self._ended = True
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_STOP_SECONDS)
