"""A time limit that many calls share: one timer of the event loop for all of them.

All calls of one limiter have the same limit, so their deadlines stand in the order in which they
began: a queue is enough, and the loop is asked for one timer at a time. ``asyncio.timeout`` makes
and cancels one for each call, which costs more than the rest of a breaker together.
"""

import asyncio
from asyncio import current_task
from collections import deque
from typing import Any

from huleedu_service_libs._clock import monotonic
from huleedu_service_libs.resilience.errors import CallTimeoutError

__all__ = ["SharedTimeLimit", "Watch"]


class Watch:
    """One call under the limit; ``task`` is ``None`` once it has ended."""

    __slots__ = ("cancelling", "deadline", "expired", "task")

    task: asyncio.Task[Any] | None
    deadline: float
    cancelling: int
    expired: bool


class SharedTimeLimit:
    """Cancels what takes longer than ``seconds``, from within the task that runs it.

    Args:
        name: Goes into the error.
        seconds: The limit.
    """

    __slots__ = ("_append", "_loop", "_timer", "_watches", "name", "seconds")

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.seconds = seconds
        self._loop: Any = object()  # stands for no loop; `None` would mean the running one below
        self._timer: asyncio.TimerHandle | None = None
        self._watches: deque[Watch] = deque()  # bound: calls begun within `seconds`
        self._append = self._watches.append

    def begin(self, now: float | None = None) -> Watch:
        """Start the time of the current task's call; ``now`` spares a look at the real clock, if it is from there.

        Raises:
            RuntimeError: There is no current task that could be cancelled.
        """
        # Asked for a known loop, this spares the search for the running one, which costs more than all the rest.
        task = current_task(self._loop) or self._task_of_another_loop()
        watch = Watch()  # without __init__: it would cost as much as the rest of this method
        watch.task = task
        watch.deadline = (monotonic() if now is None else now) + self.seconds
        watch.cancelling = task.cancelling()
        watch.expired = False
        if self._timer is None:
            self._timer = task.get_loop().call_later(self.seconds, self._due)
        self._append(watch)
        return watch

    def end(self, watch: Watch) -> None:
        """The call is over, one way or another."""
        if watch.expired and watch.task is not None:
            watch.task.uncancel()  # it made something else of our cancellation, which is spent all the same
        watch.task = None
        watches = self._watches
        while watches and watches[0].task is None:
            watches.popleft()

    def _task_of_another_loop(self) -> asyncio.Task[Any]:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError(f"{self.name}: a time limit needs a task; run the call inside one")
        self._loop = loop
        self._timer = None  # whatever was under way in the loop before has gone with it
        self._watches.clear()
        return task

    def explain(self, watch: Watch, error: BaseException) -> BaseException:
        """What to raise for ``error``: a `CallTimeoutError` if the cancellation was ours alone."""
        if watch.expired and watch.task is not None and isinstance(error, asyncio.CancelledError):
            watch.expired = False  # the cancellation is taken back here
            if watch.task.uncancel() <= watch.cancelling:
                return CallTimeoutError(self.name, self.seconds)
        return error

    def _due(self) -> None:
        self._timer = None
        now = monotonic()
        while self._watches:
            watch = self._watches[0]
            if watch.task is not None:
                if watch.deadline > now:
                    self._timer = self._loop.call_later(watch.deadline - now, self._due)
                    return
                watch.expired = True
                watch.task.cancel()
            self._watches.popleft()
