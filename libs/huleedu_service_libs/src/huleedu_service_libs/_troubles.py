"""What fails again and again, told once: when it begins, now and then, and when it is over. Pure; the clock is passed in.

Whatever tries again by itself (relay, consumer, purges, subscriptions) asks it whether a failure deserves a line, so
that an outage of a night is not a log full of lines. Counting every failure is its owner's business. Knows no log.
"""

from collections.abc import Hashable
from typing import NamedTuple

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._redaction import error_text

__all__ = ["Over", "Troubles"]

_FIRST_SILENCE_S = 60.0
_LONGEST_SILENCE_S = 3600.0


class Over(NamedTuple):
    """A trouble that is over, as fields of a log line.

    Attributes:
        failures: How often it has failed in a row.
        seconds: From the first failure to the success.
    """

    failures: int
    seconds: float


class _Trouble:
    """One thing that fails at present."""

    __slots__ = ("began", "failures", "kinds", "silence_s", "silent_until", "text")

    def __init__(self, now: float) -> None:
        self.began = now
        self.failures = 0
        self.kinds: set[str] = set()
        self.silent_until = now
        self.silence_s = _FIRST_SILENCE_S
        self.text = ""


class Troubles:
    """Things that fail at present, by name.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._by_name: dict[Hashable, _Trouble] = {}

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def failed(self, name: Hashable = "", error: BaseException | None = None) -> int:
        """Note a failure.

        Args:
            name: Of what has failed.
            error: Why.

        Returns:
            How many there were in a row, if this one is to be told: it is the first, the first of its kind of error, or
            a reminder is due, a minute after the first line, then after twice as long each time, up to an hour. Else 0.
        """
        now = self._clock()
        trouble = self._by_name.get(name)
        if trouble is None:
            trouble = self._by_name[name] = _Trouble(now)
        trouble.failures += 1
        trouble.text = "" if error is None else error_text(error)
        kind = type(error).__name__
        if kind not in trouble.kinds:
            trouble.kinds.add(kind)
            trouble.silent_until = now + trouble.silence_s
            return trouble.failures
        if now < trouble.silent_until:
            return 0
        trouble.silence_s = min(_LONGEST_SILENCE_S, 2 * trouble.silence_s)
        trouble.silent_until = now + trouble.silence_s
        return trouble.failures

    def worked(self, name: Hashable = "") -> Over | None:
        """Note a success; the trouble that it ends, to be told, if there was one."""
        trouble = self._by_name.pop(name, None)
        if trouble is None:
            return None
        return Over(failures=trouble.failures, seconds=round(self._clock() - trouble.began, 3))

    def summary(self) -> str | None:
        """The last error of everything that fails at present, each behind its name; ``None`` when nothing does."""
        return "; ".join(f"{name}: {trouble.text}" for name, trouble in self._by_name.items()) or None
