"""When to try again: delays that double, and keys that wait for theirs. Pure; the clock is passed in.

``_backoff`` has the arithmetic; half of a delay is left to chance, so that relays don't march in step.
"""

import random
from collections.abc import Callable

from huleedu_service_libs._backoff import grown, spread

__all__ = ["Backoff", "Held"]

FIRST_DELAY_S = 0.1
LEAST_DELAY_S = 0.01  # whatever the settings say: trouble that is tried again at once is a busy loop
FORGET_BEYOND = 10_000  # keys whose number of failures is remembered while none of them waits


class Backoff:
    """Delays that double from failure to failure.

    Args:
        jitter: A number in [0, 1) at each call.
    """

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def failed(self, longest: float) -> float:
        """Seconds to wait after one more failure, ``longest`` at most, yet never none."""
        self._failures += 1
        whole = grown(self._failures, first=FIRST_DELAY_S, longest=max(LEAST_DELAY_S, longest))
        return spread(whole, self._jitter())

    def succeeded(self) -> None:
        """The next failure is the first again."""
        self._failures = 0


class Held:
    """Keys, or topics, whose first event has failed and waits for its next attempt.

    Args:
        clock: Monotonic seconds.
        jitter: See `Backoff`.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._jitter = jitter
        self._backoffs: dict[str, Backoff] = {}
        self._due: dict[str, float] = {}

    @property
    def is_empty(self) -> bool:
        """Whether no failure is remembered."""
        return not self._backoffs

    def hold(self, key: str, longest: float) -> float:
        """Hold a key after a failure, longer each time, ``longest`` seconds at most; for how long."""
        delay = self._backoffs.setdefault(key, Backoff(self._jitter)).failed(longest)
        self._due[key] = self._clock() + delay
        return delay

    def release(self, key: str) -> None:
        """The key's event has left or is parked."""
        self._backoffs.pop(key, None)
        self._due.pop(key, None)

    def held(self) -> list[str]:
        """The keys that still wait."""
        now = self._clock()
        self._due = {key: due for key, due in self._due.items() if due > now}
        if len(self._backoffs) > FORGET_BEYOND:  # rows that somebody deleted would be remembered for ever
            self._backoffs = {key: backoff for key, backoff in self._backoffs.items() if key in self._due}
        return list(self._due)

    def next_due(self) -> float | None:
        """Seconds until the first of them may go, or ``None`` when none waits."""
        return max(0.0, min(self._due.values()) - self._clock()) if self._due else None
