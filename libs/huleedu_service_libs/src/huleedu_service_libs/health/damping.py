"""Keeps one lost packet from being an outage, and one lucky answer from being its end. Pure.

The state changes only when several looks in a row agree that it should: `Damping.falls_after` for the worse,
`Damping.rises_after` for the better. It then dates from the first of them. The first look of all counts at once.
"""

from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from huleedu_service_libs._checks import at_least_one, numbers_of

__all__ = ["Change", "Damped", "Damping"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Damping:
    """How many looks in a row must agree.

    Attributes:
        falls_after: To be told worse.
        rises_after: To be told better.

    Raises:
        ValueError: One is smaller than one.
    """

    falls_after: int = 3
    rises_after: int = 2

    def __post_init__(self) -> None:
        at_least_one(**numbers_of(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The state has changed.

    Attributes:
        before: The former level; ``None`` at the first look.
        after: The present one.
        since: When the first of the looks that agree was.
    """

    before: int | None
    after: int
    since: datetime


@dataclass(frozen=True, slots=True)
class _Look(Generic[T]):
    level: int
    at: datetime
    what: T


class Damped(Generic[T]):
    """One component's damped state.

    Args:
        damping: How many looks must agree.

    Attributes:
        level: What is told, greater is worse; ``None`` before the first look.
        since: When the first look found it.
        what: What was found by the newest look that agrees with the level: one at least as bad, or a good one.
    """

    def __init__(self, damping: Damping) -> None:
        self._damping = damping
        self._looks: deque[_Look[T]] = deque(maxlen=max(damping.falls_after, damping.rises_after))
        self.level: int | None = None
        self.since: datetime | None = None
        self.what: T | None = None

    def observe(self, level: int, at: datetime, what: T) -> Change | None:
        """A look at ``at`` has found ``level``; ``what`` is kept with it."""
        self._looks.append(_Look(level, at, what))
        before = self.level
        target, since = self._target()
        if target != before:
            self.level, self.since = target, since
        self._choose_what()
        return Change(before=before, after=target, since=since) if target != before else None

    def _target(self) -> tuple[int, datetime]:
        newest = self._looks[-1]
        if self.level is None or self.since is None:
            return newest.level, newest.at
        worse = self._last(self._damping.falls_after)
        if worse and (lowest := min(look.level for look in worse)) > self.level:
            return lowest, worse[0].at
        better = self._last(self._damping.rises_after)
        if better and (highest := max(look.level for look in better)) < self.level:
            return highest, better[0].at
        return self.level, self.since

    def _last(self, count: int) -> list[_Look[T]]:
        return list(self._looks)[-count:] if len(self._looks) >= count else []

    def _choose_what(self) -> None:
        level = self.level or 0
        for look in reversed(self._looks):
            if look.level >= level and (level or not look.level):
                self.what = look.what
                return
