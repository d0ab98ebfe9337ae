"""What happened when: events counted by slices of time, for a drill's curves."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

__all__ = ["Series"]

SLICE_SECONDS = 0.25


@dataclass
class Series:
    """Counts events by name and slice, and notes changes of a state.

    Attributes:
        started: Monotonic seconds at the beginning.
        counts: By name, then by slice.
        states: Seconds since the beginning and the state from then on.
    """

    started: float = field(default_factory=time.monotonic)
    counts: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    states: list[tuple[float, str]] = field(default_factory=lambda: [(0.0, "closed")])

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.started

    def restart(self) -> None:
        """Forget what was noted so far; the beginning is now."""
        self.started = time.monotonic()
        self.counts.clear()
        self.states[:] = [(0.0, "closed")]

    def count(self, name: str, number: int = 1) -> None:
        """Something has happened."""
        self.counts[name][int(self.now / SLICE_SECONDS)] += number

    def state(self, value: str) -> None:
        """The breaker is in this state from now on."""
        self.states.append((self.now, value))

    def curve(self, name: str, seconds: float) -> tuple[list[float], list[float]]:
        """Times and rates a second."""
        slices = range(int(seconds / SLICE_SECONDS))
        return [each * SLICE_SECONDS for each in slices], [self.counts[name][each] / SLICE_SECONDS for each in slices]

    def total(self, name: str, since: float = 0.0, until: float = float("inf")) -> int:
        """How often between two moments."""
        return sum(number for each, number in self.counts[name].items() if since <= each * SLICE_SECONDS < until)

    def spans(self, state: str, end: float) -> list[tuple[float, float]]:
        """When the breaker was in ``state``."""
        ends = [moment for moment, _ in self.states[1:]] + [end]
        return [(begin, finish) for (begin, name), finish in zip(self.states, ends, strict=True) if name == state]
