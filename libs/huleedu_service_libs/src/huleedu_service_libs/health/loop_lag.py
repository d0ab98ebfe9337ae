"""Measures how late the event loop is. A loop that is late makes everything late, and nobody else says so.

A loop that stands still altogether cannot answer the liveness probe either; this is for the one that crawls.
"""

import asyncio

from huleedu_service_libs import _clock
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.health.findings import Finding, Level
from huleedu_service_libs.health.metrics import LOOP_LAG
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["LoopLag"]

_STOP_S = 5.0
_TICK_S = 0.1
_TOLD_EVERY_S = 60.0

logger = create_service_logger("huleedu_service_libs.health")


class LoopLag(StartStop):
    """Sleeps for a tenth of a second again and again, and sees how much longer it took. Explicit start and stop.

    Args:
        service_name: Label of the gauge.
        warn_s: Seconds of lag from which on the loop is ``WARN``.
        fail_s: Seconds from which on it is ``FAIL``.
        clock: Monotonic seconds.
        sleep: Waits.

    Raises:
        ValueError: The limits are not positive and in order.
    """

    def __init__(
        self,
        service_name: str,
        *,
        warn_s: float = 0.5,
        fail_s: float = 5.0,
        clock: _clock.Clock = _clock.monotonic,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        if not 0 < warn_s <= fail_s:
            raise ValueError(f"0 < warn_s <= fail_s must hold, got warn_s={warn_s} and fail_s={fail_s}")
        self._gauge = LOOP_LAG.labels(service_name)
        self._warn_s, self._fail_s = warn_s, fail_s
        self._clock, self._sleep = clock, sleep
        self._worst_s = 0.0
        self._slept_at: float | None = None
        self._told_at: float | None = None
        self._untold = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to measure. Idempotent."""
        if self._task is None:
            self._task = begin(self._run(), name="health:loop-lag")

    async def stop(self) -> None:
        """End it. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await end(task, limit_s=_STOP_S)

    async def look(self) -> Finding:
        """The worst lag since the last look."""
        overdue = 0.0 if self._slept_at is None else self._clock() - self._slept_at - _TICK_S  # of the tick under way
        worst, self._worst_s = max(self._worst_s, overdue), 0.0
        self._gauge.set(worst)
        details = {"lag_seconds": round(worst, 3)}
        if worst < self._warn_s:
            return Finding(details=details)
        cause = (
            f"the event loop was {worst:.1f} s late (limit {self._warn_s:g} s): something blocks it, such as a "
            "synchronous call or a long computation; move it to asyncio.to_thread or a process"
        )
        return Finding(level=Level.FAIL if worst >= self._fail_s else Level.WARN, cause=cause, details=details)

    async def _run(self) -> None:
        while True:
            before = self._slept_at = self._clock()
            await self._sleep(_TICK_S)
            late_s = self._clock() - before - _TICK_S
            self._worst_s = max(self._worst_s, late_s)
            if late_s >= self._warn_s:
                self._tell(late_s)

    def _tell(self, late_s: float) -> None:
        """One line a minute: a single block is over before looks agree, and nothing else would tell of it."""
        now = self._clock()
        if self._told_at is not None and now - self._told_at < _TOLD_EVERY_S:
            self._untold += 1
            return
        logger.warning("event_loop_blocked", seconds=round(late_s, 3), untold=self._untold)
        self._told_at, self._untold = now, 0
