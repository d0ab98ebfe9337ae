"""Limits on calls: how long one may take, and how many may run at once."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from huleedu_service_libs._checks import at_least_one, not_negative, positive
from huleedu_service_libs.resilience.deadline import remaining
from huleedu_service_libs.resilience.errors import BulkheadFullError, DeadlineExceededError
from huleedu_service_libs.resilience.timers import SharedTimeLimit

__all__ = ["Bulkhead", "TimeLimit"]

P = ParamSpec("P")
T = TypeVar("T")


class TimeLimit:
    """Cancels a call after some seconds, or when the deadline of its request passes if that is sooner.

    Args:
        seconds: For each call.
        name: Goes into the error.

    Raises:
        ValueError: ``seconds`` is not positive.
    """

    def __init__(self, seconds: float, *, name: str = "time limit") -> None:
        positive(seconds=seconds)
        self.seconds = seconds
        self.name = name
        self._shared = SharedTimeLimit(name, seconds)

    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``func`` within the limit.

        Raises:
            CallTimeoutError: It took too long.
            DeadlineExceededError: The request's deadline has passed.
        """
        left = remaining()
        if left is not None and left < self.seconds:
            return await self._until_the_deadline(left, func, *args, **kwargs)
        watch = self._shared.begin()
        try:
            return await func(*args, **kwargs)
        except asyncio.CancelledError as error:
            late = self._shared.explain(watch, error)
            if late is not error:
                raise late from error
            raise
        finally:
            self._shared.end(watch)

    async def _until_the_deadline(
        self, left: float, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        if left <= 0:
            raise DeadlineExceededError(self.name, 0.0)
        limit = asyncio.timeout(left)
        try:
            async with limit:
                return await func(*args, **kwargs)
        except TimeoutError as error:
            if limit.expired():
                raise DeadlineExceededError(self.name, left) from error
            raise


class Bulkhead:
    """Lets so many calls run at once, and so many wait; refuses the rest.

    Args:
        limit: Calls at once.
        queue_size: Calls that may wait for room.
        wait_s: Seconds that one of them waits, at most; less where its request's deadline comes sooner.
        name: Goes into the error.

    Raises:
        ValueError: No call could run, or a number is negative.
    """

    def __init__(self, limit: int, *, queue_size: int = 0, wait_s: float = 1.0, name: str = "bulkhead") -> None:
        at_least_one(limit=limit)
        not_negative(queue_size=queue_size)
        positive(wait_s=wait_s)
        self.limit = limit
        self.queue_size = queue_size
        self.wait_s = wait_s
        self.name = name
        self.running = 0
        self._waiters: deque[asyncio.Future[None]] = deque()  # bound: `queue`, see _wait

    def __repr__(self) -> str:
        return f"Bulkhead(name={self.name!r}, running={self.running}/{self.limit}, waiting={self.waiting})"

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return len(self._waiters)

    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``func`` when there is room.

        Raises:
            BulkheadFullError: There is none, or it did not come in time; ``func`` was not called.
        """
        if self.running < self.limit and not self._waiters:
            self.running += 1
        else:
            await self._wait()
        try:
            return await func(*args, **kwargs)
        finally:
            self._leave()

    async def __aenter__(self) -> Self:
        if self.running < self.limit and not self._waiters:
            self.running += 1
        else:
            await self._wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    async def _wait(self) -> None:
        """Wait for somebody's place, first come, first served."""
        left = remaining()
        if len(self._waiters) >= self.queue_size or left == 0:
            raise BulkheadFullError(self.name, self.limit, self.waiting)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        try:
            async with asyncio.timeout(self.wait_s if left is None else min(left, self.wait_s)):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():  # given to us in the same moment
                self._leave()
            elif place in self._waiters:
                self._waiters.remove(place)
            if isinstance(error, TimeoutError):
                raise BulkheadFullError(self.name, self.limit, self.waiting) from error
            raise

    def _leave(self) -> None:
        """Hand the place to the first who waits, or free it."""
        while self._waiters:
            place = self._waiters.popleft()
            if not place.done():
                place.set_result(None)
                return
        self.running -= 1
