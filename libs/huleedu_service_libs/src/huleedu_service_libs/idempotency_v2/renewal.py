"""Keeps claims alive for as long as their handlers run.

``consumer`` has one for all its deliveries: all claims under way are renewed in the
same moment, so that they travel in one command, and a short handler costs no task.
Knows neither Redis nor events, only when to renew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from huleedu_service_libs import _clock
from huleedu_service_libs.idempotency_v2.records import DEFAULT_PROCESSING_TTL_SECONDS

__all__ = ["Renewals"]

_INTERVAL_SECONDS = DEFAULT_PROCESSING_TTL_SECONDS / 3


class Renewals:
    """Renews what is held, every 100 s; while nothing is held nothing runs.

    A renewal that is under way when its claim is dropped may come after confirmation or release;
    it finds its token no longer and changes nothing.

    Args:
        sleep: Waits.
    """

    def __init__(self, sleep: _clock.Sleep) -> None:
        self._sleep = sleep
        self._held: dict[Hashable, Callable[[], Awaitable[bool]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def hold(self, claim: Hashable, renew: Callable[[], Awaitable[bool]]) -> None:
        """Renew ``claim`` from now on.

        Args:
            claim: Its token.
            renew: Renews once; ``False`` when there is nothing left to renew. Does not raise.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the loop before has ended, and its deliveries with it
            self._loop, self._task = loop, None
            self._held.clear()
        self._held[claim] = renew
        if self._task is None:
            self._task = loop.create_task(self._run())

    def drop(self, claim: Hashable) -> None:
        """Renew it no longer. Idempotent."""
        self._held.pop(claim, None)
        if not self._held and self._task is not None:
            self._task.cancel()
            self._task = None

    def holds(self, claim: Hashable) -> bool:
        """Whether it is renewed."""
        return claim in self._held

    async def _run(self) -> None:
        me = asyncio.current_task()
        while True:
            await self._sleep(_INTERVAL_SECONDS)
            if self._task is not me:  # a driver may lose a cancellation that comes with a reply
                return
            held = list(self._held.items())
            for (claim, _), alive in zip(held, await asyncio.gather(*(renew() for _, renew in held)), strict=True):
                if not alive:
                    self.drop(claim)
