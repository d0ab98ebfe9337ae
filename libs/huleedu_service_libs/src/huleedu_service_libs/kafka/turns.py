"""Whose turn it is on a partition: one sender at a time, first come first served.

``batching`` waits for a turn, ``coalescing`` takes a free one without a step of the event loop in between (which an
`asyncio.Lock` cannot do). Knows nothing of Kafka.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Turn"]


class Turn:
    """Held by one at a time; whoever gives it back hands it to the one that has waited longest."""

    __slots__ = ("_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()  # bound: one for each caller that waits

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits."""
        return any(not waiter.done() for waiter in self._waiting)

    def try_take(self) -> bool:
        """Take it if it is free."""
        if self._taken:
            return False
        self._taken = True
        return True

    def queue(self) -> asyncio.Future[None]:
        """Stand in line; the turn is taken when the future has a result."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.try_take():
            waiter.set_result(None)
        else:
            self._waiting.append(waiter)
        return waiter

    def give_back(self) -> None:
        """Hand it to the next in line, or leave it free."""
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():  # else its owner was cancelled
                waiter.set_result(None)
                return
        self._taken = False

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Wait for the turn, keep it inside the block."""
        waiter = self.queue()
        try:
            await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # it was handed over in the very moment of the cancellation
                self.give_back()
            raise
        try:
            yield
        finally:
            self.give_back()
