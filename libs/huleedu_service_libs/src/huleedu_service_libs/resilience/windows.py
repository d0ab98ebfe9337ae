"""Counting windows of a breaker: they take results and say when it is enough. Pure, O(1) a call.

`machine` owns one at a time. Not safe under threads: one event loop uses it.
"""

from typing import Protocol

from huleedu_service_libs.resilience.policy import CountWindow, TimeWindow

__all__ = ["FAILED", "SLOW", "CountingWindow", "SlicedWindow", "Window", "make_window"]

FAILED = 1
SLOW = 2


class Window(Protocol):
    """Takes the result of each call."""

    def record(self, result: int, now: float) -> bool:
        """Add a result (``FAILED | SLOW``, or 0) at ``now``; whether the circuit should open."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


def make_window(policy: CountWindow | TimeWindow | None) -> Window | None:
    """The window that keeps ``policy``."""
    if policy is None:
        return None
    return CountingWindow(policy) if isinstance(policy, CountWindow) else SlicedWindow(policy)


class CountingWindow:
    """The last ``size`` results in a ring."""

    __slots__ = ("_failures", "_filled", "_place", "_policy", "_ring", "_slow")

    def __init__(self, policy: CountWindow) -> None:
        self._policy = policy
        self.clear()

    def clear(self) -> None:
        """See `Window`."""
        self._ring = bytearray(self._policy.size)
        self._place = self._filled = self._failures = self._slow = 0

    def record(self, result: int, now: float) -> bool:  # noqa: ARG002  # the port's signature
        """See `Window`."""
        ring, place = self._ring, self._place
        gone = ring[place]
        if gone or result:
            ring[place] = result
            self._failures += (result & FAILED) - (gone & FAILED)
            self._slow += (result >> 1) - (gone >> 1)
        place += 1
        self._place = 0 if place == len(ring) else place
        if self._filled < len(ring):
            self._filled += 1
        # A success can open as well, when it completes the minimum.
        if self._failures or self._slow:
            return _enough(self._policy, self._filled, self._failures, self._slow)
        return False


class SlicedWindow:
    """Results of the last ``seconds``, summed by slices of time."""

    __slots__ = (
        "_counts",
        "_current",
        "_earlier",
        "_failures",
        "_policy",
        "_slice_seconds",
        "_slices",
        "_slow",
        "_turn_at",
    )

    def __init__(self, policy: TimeWindow) -> None:
        self._policy = policy
        self._slice_seconds = policy.seconds / policy.slices
        self.clear()

    def clear(self) -> None:
        """See `Window`."""
        self._slices = [[0, 0, 0] for _ in range(self._policy.slices)]  # each: calls, failures, slow ones
        self._current = 0
        self._counts = self._slices[0]
        self._earlier = self._failures = self._slow = 0  # earlier: calls in the slices before this one
        self._turn_at = float("-inf")  # the first result begins the first slice

    def record(self, result: int, now: float) -> bool:
        """See `Window`."""
        if now >= self._turn_at:
            self._turn(now)
        counts = self._counts
        counts[0] += 1
        if result:
            counts[1] += result & FAILED
            counts[2] += result >> 1
            self._failures += result & FAILED
            self._slow += result >> 1
        if self._failures or self._slow:
            return _enough(self._policy, self._earlier + counts[0], self._failures, self._slow)
        return False

    def _turn(self, now: float) -> None:
        """Drop the slices that ``now`` has left behind."""
        if self._turn_at == float("-inf"):
            self._turn_at = now + self._slice_seconds
            return
        steps = int((now - self._turn_at) / self._slice_seconds) + 1
        for _ in range(min(steps, len(self._slices))):
            self._earlier += self._slices[self._current][0]
            self._current = (self._current + 1) % len(self._slices)
            counts = self._slices[self._current]
            self._earlier -= counts[0]
            self._failures -= counts[1]
            self._slow -= counts[2]
            counts[:] = (0, 0, 0)
        self._counts = self._slices[self._current]
        self._turn_at += steps * self._slice_seconds


def _enough(policy: CountWindow | TimeWindow, calls: int, failures: int, slow: int) -> bool:
    if calls < policy.minimum_calls:
        return False
    return failures >= policy.failure_rate * calls or (
        policy.slow_rate is not None and slow >= policy.slow_rate * calls
    )
