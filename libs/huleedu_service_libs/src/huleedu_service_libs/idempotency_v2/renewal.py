"""Keeps claims alive for as long as their handlers run.

``keeping`` has one for all deliveries of a handler: all claims under way are renewed in the
same moment, so that they travel in one command, and no handler costs a task of its own.
Knows neither Redis nor events, only when to renew.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import begin

__all__ = ["Renewals"]

_RENEWALS_IN_A_LIFE = 3


class Renewals:
    """Renews what is held, three times in a claim's life; while nothing is held nothing runs.

    A renewal that is under way when its claim is dropped may come after confirmation or release;
    it finds its token no longer and changes nothing.

    Args:
        sleep: Waits.
        ttl_seconds: Life of a claim that is not renewed.
    """

    def __init__(self, sleep: _clock.Sleep, *, ttl_seconds: float) -> None:
        self._sleep = sleep
        self._interval_seconds = ttl_seconds / _RENEWALS_IN_A_LIFE
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
            self._task = begin(self._run(), name="idempotency:renewals")

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
            await self._sleep(self._interval_seconds)
            if self._task is not me:  # a driver may lose a cancellation that comes with a reply
                return
            held = list(self._held.items())
            for (claim, _), alive in zip(held, await asyncio.gather(*(renew() for _, renew in held)), strict=True):
                if not alive:
                    self.drop(claim)
