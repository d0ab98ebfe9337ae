"""How long a circuit stays open: from the failure that opened it, growing and spread as the policy says.

``machine`` owns one. It counts openings without a recovery between, and knows no state.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from huleedu_service_libs import _clock
from huleedu_service_libs._backoff import grown
from huleedu_service_libs.resilience.policy import BreakerPolicy

__all__ = ["OpenTime"]


class OpenTime:
    """The open time of one breaker.

    Args:
        recovery_timeout: Open time, before growth and jitter.
        policy: Growth, its limit, and jitter.
        clock: Monotonic seconds.
        now: The time of day.
        jitter: A number in [0, 1) at each call.

    Attributes:
        until: When the open time ends, by the clock; minus infinity when nothing is waited for.
        last_failure: The time of day of the failure that counts, or of what was assigned.
    """

    __slots__ = (
        "_clock",
        "_failed_at",
        "_jitter",
        "_now",
        "_openings",
        "_policy",
        "_stretch",
        "_timeout",
        "last_failure",
        "until",
    )

    def __init__(
        self,
        recovery_timeout: timedelta,
        policy: BreakerPolicy,
        clock: _clock.Clock,
        now: _clock.Now,
        jitter: Callable[[], float],
    ) -> None:
        self._timeout = recovery_timeout
        self._policy = policy
        self._clock, self._now, self._jitter = clock, now, jitter
        self._stretch = 1.0
        self._openings = 0
        self._failed_at: float | None = None
        self.last_failure: datetime | None = None
        self.until = float("-inf")

    @property
    def timeout(self) -> timedelta:
        """Open time, before growth and jitter. Assigning one changes the opening under way, too."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: timedelta) -> None:
        self._timeout = timeout
        self._set_until()

    @property
    def seconds(self) -> float:
        """How long this opening lasts: the recovery time, grown and spread."""
        return self._timeout.total_seconds() * self._stretch

    def failed(self, now: float) -> None:
        """A failure was counted at ``now``, by the clock."""
        self._failed_at = now
        self.last_failure = self._now()

    def failed_at(self, moment: datetime | None) -> None:
        """Somebody says when the last failure was. A naive time is local time."""
        self.last_failure = moment
        if moment is None:
            self._failed_at = None
        else:
            age = (self._now() - moment.astimezone(UTC)).total_seconds()
            self._failed_at = self._clock() - max(0.0, age)
        self._set_until()

    def begin(self, now: float) -> None:
        """The circuit opens at ``now``, by the clock."""
        policy = self._policy
        most = max(1.0, policy.longest_open_s / max(self._timeout.total_seconds(), 1e-9))
        self._openings += 1
        growth = grown(self._openings, first=1.0, longest=most, factor=policy.open_growth)
        self._stretch = growth * (1 + policy.open_jitter * self._jitter())
        self._failed_at = now
        if self.last_failure is None:
            self.last_failure = self._now()
        self._set_until()

    def begin_plain(self) -> None:
        """Somebody opened the circuit by hand: the plain time, from the last failure on."""
        self._stretch = 1.0
        self._set_until()

    def recovered(self) -> None:
        """The growth starts anew."""
        self._openings = 0

    def forget(self) -> None:
        """As on the first day."""
        self._failed_at = self.last_failure = None
        self._openings = 0
        self._set_until()

    def _set_until(self) -> None:
        """Without a recorded failure nothing is waited for."""
        self.until = float("-inf") if self._failed_at is None else self._failed_at + self.seconds
