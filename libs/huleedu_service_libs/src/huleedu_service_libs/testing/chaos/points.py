"""Named places in a process at which it dies, chosen from outside: the crash points.

A child process of a test puts them around methods of its ports (`CrashPoints.around`) or between its own
lines (`CrashPoints.reached`). The test says through the environment which one strikes, and at which
hit. Production code needs none of it: a point that is not chosen wraps nothing.
"""

import asyncio
import functools
import os
import random
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from huleedu_service_libs import _clock

__all__ = ["Action", "CrashPlan", "CrashPoints"]

POINT_VARIABLE = "HULEEDU_CRASH_POINT"
HIT_VARIABLE = "HULEEDU_CRASH_HIT"
ACTION_VARIABLE = "HULEEDU_CRASH_ACTION"
REST_VARIABLE = "HULEEDU_CRASH_REST"
_LONGEST_DURING_S = 0.005


class Action(StrEnum):
    """What happens at the chosen point."""

    KILL = "kill"
    """SIGKILL to the process itself: nothing is flushed, nobody is told."""
    STOP = "stop"
    """SIGSTOP: it stands still as one whose host has frozen, until somebody sends SIGCONT."""


_SIGNALS = {Action.KILL: signal.SIGKILL, Action.STOP: signal.SIGSTOP}


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashPlan:
    """Which point strikes.

    Attributes:
        point: Its name.
        hit: At which time that it is reached, from 1.
        action: What happens.
        rest_s: Seconds of the process, or since `CrashPoints.rest`, in which no hit counts: time in which the others recover
            from the death before.

    Raises:
        ValueError: ``hit`` is less than 1, or ``rest_s`` negative.
    """

    point: str
    hit: int = 1
    action: Action = Action.KILL
    rest_s: float = 0.0

    def __post_init__(self) -> None:
        if self.hit < 1:
            raise ValueError(f"hit counts from 1, not {self.hit}: it is the n-th time that the point is reached")
        if self.rest_s < 0:
            raise ValueError(f"rest_s must not be negative, got {self.rest_s:g}")

    def environment(self) -> dict[str, str]:
        """The variables that hand the plan to a child process."""
        return {
            POINT_VARIABLE: self.point,
            HIT_VARIABLE: str(self.hit),
            ACTION_VARIABLE: self.action.value,
            REST_VARIABLE: f"{self.rest_s:g}",
        }

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """The plan of this process, or ``None`` when it has none.

        Raises:
            ValueError: A variable holds something else than its name says.
        """
        point = environ.get(POINT_VARIABLE)
        if not point:
            return None
        hit = environ.get(HIT_VARIABLE, "1")
        if not hit.isdecimal():
            raise ValueError(f"{HIT_VARIABLE} must be a whole number from 1, not {hit!r}")
        return cls(
            point=point,
            hit=int(hit),
            action=Action(environ.get(ACTION_VARIABLE, Action.KILL)),
            rest_s=float(environ.get(REST_VARIABLE, "0")),
        )


def _strike(action: Action) -> None:
    os.kill(os.getpid(), _SIGNALS[action])


class CrashPoints:
    """The crash points of one process.

    Args:
        plan: Which one strikes; ``None`` for none.
        announce: Told the point's name right before it strikes.
        strike: What striking is.
        sleep: Waits.
        chance: A number in [0, 1) at each call; places the strike within a call.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        plan: CrashPlan | None,
        *,
        announce: Callable[[str], None] = lambda _: None,
        strike: Callable[[Action], None] = _strike,
        sleep: _clock.Sleep = _clock.sleep,
        chance: Callable[[], float] = random.random,
        clock: _clock.Clock = _clock.monotonic,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._armed_at = 0.0
        self.rest()
        self._announce = announce
        self._strike = strike
        self._sleep = sleep
        self._chance = chance
        self._hits = 0

    def rest(self) -> None:
        """The plan's rest begins now: for a process that takes its time until it does its work."""
        self._armed_at = self._clock() + (self._plan.rest_s if self._plan else 0.0)

    def chosen(self, name: str | None) -> bool:
        """Whether this point is the one of the plan."""
        return self._plan is not None and self._plan.point == name

    def reached(self, name: str) -> None:
        """Strike here, if the plan says so."""
        if self._counts(name):
            self._hit(name)

    def around(
        self,
        owner: type,
        method: str,
        *,
        before: str | None = None,
        during: str | None = None,
        after: str | None = None,
    ) -> None:
        """Put points around an ``async`` method of a class, for all its instances in this process.

        Nothing is changed unless one of the names is the plan's.

        Args:
            owner: The class that defines the method.
            method: Its name.
            before: Strikes when it is called, before it has done anything.
            during: Strikes at a random moment of the first 5 ms of the call, at its end at the latest.
            after: Strikes when it has returned, before the caller learns of it.

        Raises:
            AttributeError: The class itself defines no such method; a point that can never strike proves nothing.
        """
        original = vars(owner).get(method)
        if original is None:
            raise AttributeError(f"{owner.__name__} itself defines no {method!r}: name the class that does")
        if any(map(self.chosen, (before, during, after))):
            setattr(owner, method, self._wrapped(original, before, during, after))

    def _wrapped(
        self, original: Callable[..., Awaitable[Any]], before: str | None, during: str | None, after: str | None
    ) -> Callable[..., Awaitable[Any]]:
        @functools.wraps(original)
        async def call(*args: Any, **kwargs: Any) -> Any:
            if before is not None:
                self.reached(before)
            result = await self._run(original(*args, **kwargs), during)
            if after is not None:
                self.reached(after)
            return result

        return call

    async def _run(self, call: Awaitable[Any], during: str | None) -> Any:
        if during is None or not self._counts(during):
            return await call
        from huleedu_service_libs._tasks import attended, leave  # noqa: PLC0415  # children that need it not start sooner

        task = attended(_awaited(call), name="chaos-call")
        pause = attended(_awaited(self._sleep(self._chance() * _LONGEST_DURING_S)), name="chaos-pause")
        # no limit: the pause is one
        await asyncio.wait([task, pause], return_when=asyncio.FIRST_COMPLETED)
        leave(pause)
        self._hit(during)
        return await task  # a stopped process may be woken again

    def _counts(self, name: str) -> bool:
        """Count a hit; whether it is the one."""
        if self._plan is None or self._plan.point != name or self._clock() < self._armed_at:
            return False
        self._hits += 1
        return self._hits == self._plan.hit

    def _hit(self, name: str) -> None:
        assert self._plan is not None  # noqa: S101  # only the plan's point comes here
        self._announce(name)
        self._strike(self._plan.action)


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call
