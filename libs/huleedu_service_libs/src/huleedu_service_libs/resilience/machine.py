"""The state machine of a circuit breaker, and nothing else: no call, no metric, no log, no span.

::

    CLOSED ──enough failures──▶ OPEN ──open time over──▶ HALF_OPEN ──successes──▶ CLOSED (by a ramp, if wanted)
                                  ▲──────────────one failure──┘

Every transition begins a new *era*. A call remembers the era in which it was admitted, and its
result counts in that era only: what a slow call of yesterday brings back decides nothing today.
`CircuitBreaker` runs calls through it. For one event loop: nothing here waits, so no two tasks
are inside at once.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from common_core import CircuitBreakerState
from huleedu_service_libs import _clock
from huleedu_service_libs.resilience.policy import BreakerPolicy
from huleedu_service_libs.resilience.windows import FAILED, SLOW, make_window

__all__ = ["IS_OPEN", "Hold", "StateChange", "StateMachine"]

IS_OPEN = "is OPEN"
"""Why an open circuit refuses; the end of the sentence."""

CLOSED = CircuitBreakerState.CLOSED
OPEN = CircuitBreakerState.OPEN
HALF_OPEN = CircuitBreakerState.HALF_OPEN


class Hold(Enum):
    """A decision of a person that stands above the counting."""

    ISOLATED = "isolated"
    FORCED_CLOSED = "forced_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """What a listener is told.

    Attributes:
        name: The breaker.
        old: The state before.
        new: The state now.
        failure_count: Failures in a row when it happened.
        open_seconds: How long calls are refused, when it opened.
        reason: ``failures``, ``trial_failed``, ``trial``, ``recovered``, ``undecided``, ``assigned``, ``reset``, ``held``.
    """

    name: str
    old: CircuitBreakerState
    new: CircuitBreakerState
    failure_count: int
    open_seconds: float
    reason: str


class StateMachine:
    """Counts results and decides who may pass.

    Args:
        name: Goes into `StateChange`.
        failure_threshold: Failures in a row that open, without a window.
        recovery_timeout: Open time, before growth and jitter.
        success_threshold: Successes that close a half-open circuit.
        policy: Everything else.
        clock: Monotonic seconds.
        now: The time of day, only for what is shown and assigned as ``last_failure_time``.
        jitter: A number in [0, 1) at each call.
        on_change: Told of every transition, after it.

    Attributes:
        passage_free: Closed and nothing to ask about; the fast path of a call looks at it alone.
        refused_for: Seconds that the call refused last would have to wait; ``None`` when nobody can tell.
        era: Number of the current state's period.
        last_failure: What ``last_failure_time`` shows.
    """

    __slots__ = (
        "_clock",
        "_credit",
        "_failed_at",
        "_half_open_since",
        "_jitter",
        "_now",
        "_on_change",
        "_open_until",
        "_openings",
        "_ramp_since",
        "_recovery_timeout",
        "_slow_apart",
        "_state",
        "_stretch",
        "_trials",
        "_window",
        "era",
        "failure_count",
        "failure_threshold",
        "hold",
        "last_failure",
        "name",
        "passage_free",
        "policy",
        "refused_for",
        "success_count",
        "success_threshold",
    )

    def __init__(
        self,
        name: str,
        *,
        failure_threshold: int,
        recovery_timeout: timedelta,
        success_threshold: int,
        policy: BreakerPolicy,
        clock: _clock.Clock,
        now: _clock.Now = _clock.utc_now,
        jitter: Callable[[], float] = random.random,
        on_change: Callable[[StateChange], None],
    ) -> None:
        self.name = name
        self.failure_threshold = failure_threshold
        self._recovery_timeout = recovery_timeout
        self.success_threshold = success_threshold
        self.policy = policy
        self.hold: Hold | None = None
        self.era = 0
        self.failure_count = self.success_count = 0
        self.passage_free = True
        self._state = CLOSED
        self._stretch = 1.0
        self._window = make_window(policy.window)
        self._slow_apart = policy.window is not None and policy.window.slow_rate is not None
        self._clock, self._now, self._jitter, self._on_change = clock, now, jitter, on_change
        self.refused_for: float | None = None
        self._failed_at: float | None = None
        self._open_until = 0.0
        self.last_failure: datetime | None = None
        self._half_open_since = 0.0
        self._openings = self._trials = 0
        self._ramp_since: float | None = None
        self._credit = 0.0

    # What services read and assign

    @property
    def state(self) -> CircuitBreakerState:
        """The state; assigning one makes it so, as if the circuit had come there by itself."""
        return self._state

    @state.setter
    def state(self, state: CircuitBreakerState) -> None:
        self._stretch = 1.0
        self._set_open_until()
        self._enter(CircuitBreakerState(state), "assigned")

    @property
    def last_failure_time(self) -> datetime | None:
        """When a failure was last counted. Assigned values may be naive: local time is meant."""
        return self.last_failure

    @last_failure_time.setter
    def last_failure_time(self, moment: datetime | None) -> None:
        self.last_failure = moment
        if moment is None:
            self._failed_at = None
        else:
            age = (self._now() - moment.astimezone(UTC)).total_seconds()
            self._failed_at = self._clock() - max(0.0, age)
        self._set_open_until()

    @property
    def recovery_timeout(self) -> timedelta:
        """Open time, before growth and jitter. Assigning one changes the opening under way, too."""
        return self._recovery_timeout

    @recovery_timeout.setter
    def recovery_timeout(self, timeout: timedelta) -> None:
        self._recovery_timeout = timeout
        self._set_open_until()

    @property
    def open_seconds(self) -> float:
        """How long this opening lasts: the recovery time, grown and spread."""
        return self._recovery_timeout.total_seconds() * self._stretch

    def _set_open_until(self) -> None:
        """Without a recorded failure nothing is waited for."""
        self._open_until = float("-inf") if self._failed_at is None else self._failed_at + self.open_seconds

    # Admission

    def admit(self, now: float) -> str | None:
        """Let one call in, or say why not. Only asked when the passage is not free."""
        self.refused_for = None
        if self.hold is Hold.ISOLATED:
            return IS_OPEN
        if self._state is OPEN:
            left = self._open_until - now
            if left > 0:
                self.refused_for = left
                return IS_OPEN
            self._enter(HALF_OPEN, "trial")
        if self._state is HALF_OPEN:
            return self._admit_trial(now)
        return self._admit_by_ramp(now)

    def retry_after(self, now: float) -> float:
        """Seconds until an open circuit tries again; 0 when it may."""
        return max(0.0, self._open_until - now) if self._state is OPEN else 0.0

    def try_now(self) -> None:
        """End the open time: the next call is a trial."""
        if self._state is OPEN and self.hold is None:
            self._enter(HALF_OPEN, "trial")

    def _admit_trial(self, now: float) -> str | None:
        limit = self.policy.half_open_seconds
        if limit is not None and now - self._half_open_since >= limit:
            self._open(now, "undecided")
            self.refused_for = self.open_seconds
            return IS_OPEN
        permits = self.policy.half_open_permits or max(1, self.success_threshold)
        if self._trials >= permits:
            return f"is HALF_OPEN, and its {permits} trial calls are under way"
        self._trials += 1
        return None

    def _admit_by_ramp(self, now: float) -> str | None:
        ramp, since = self.policy.ramp, self._ramp_since
        if ramp is None or since is None or now - since >= ramp.seconds:
            self._ramp_since = None
            self.passage_free = True
            return None
        share = ramp.initial + (1 - ramp.initial) * (now - since) / ramp.seconds
        self._credit += share
        if self._credit < 1:
            return f"is CLOSED again, but lets only {share:.0%} of the calls through for now"
        self._credit -= 1
        return None

    # Results

    def succeeded(self, era: int, now: float, seconds: float) -> None:
        """A call admitted in ``era`` has succeeded after ``seconds``."""
        if era != self.era:
            return
        limit = self.policy.slow_call_seconds
        slow = limit is not None and seconds > limit
        window = self._window
        if slow and (self._state is HALF_OPEN or not self._slow_apart):
            self._count_failure(now, FAILED | SLOW)
        elif self._state is HALF_OPEN:
            self._trial_succeeded(now)
        else:
            self.failure_count = 0
            if window is not None and window.record(SLOW if slow else 0, now):
                self._open(now, "failures")

    def failed(self, era: int, now: float) -> None:
        """A call admitted in ``era`` has failed."""
        if era == self.era:
            self._count_failure(now, FAILED)

    def neutral(self, era: int) -> None:
        """A call admitted in ``era`` has ended without saying anything about the dependency."""
        if era == self.era and self._state is HALF_OPEN:
            self._trials -= 1

    def _count_failure(self, now: float, result: int) -> None:
        if self.hold is not None:
            return
        if self._state is HALF_OPEN:
            self._mark_failure(now)
            self._open(now, "trial_failed")
        elif self._state is CLOSED:
            self._mark_failure(now)
            enough = (
                self.failure_count >= self.failure_threshold
                if self._window is None
                else self._window.record(result, now)
            )
            if enough:
                self._open(now, "failures")

    def _mark_failure(self, now: float) -> None:
        self.failure_count += 1
        self._failed_at = now
        self.last_failure = self._now()

    def _trial_succeeded(self, now: float) -> None:
        self._trials -= 1
        self.success_count += 1
        if self.success_count >= self.success_threshold:
            self._openings = 0
            self._enter(CLOSED, "recovered")
            if self.policy.ramp is not None:
                self._ramp_since, self._credit, self.passage_free = now, 1.0, False

    # Transitions

    def _open(self, now: float, reason: str) -> None:
        most = max(1.0, self.policy.open_seconds_max / max(self._recovery_timeout.total_seconds(), 1e-9))
        growth = min(self.policy.open_growth ** min(self._openings, 64), most)
        self._stretch = growth * (1 + self.policy.open_jitter * self._jitter())
        self._openings += 1
        self._failed_at = now
        self._set_open_until()
        if self.last_failure is None:
            self.last_failure = self._now()
        self._enter(OPEN, reason)

    def _enter(self, new: CircuitBreakerState, reason: str) -> None:
        old, self._state = self._state, new
        self.era += 1
        self._trials = 0
        self._ramp_since = None
        self.passage_free = self.hold is Hold.FORCED_CLOSED or (new is CLOSED and self.hold is None)
        count = self.failure_count
        if new is not OPEN:
            self.failure_count = self.success_count = 0
        if new is CLOSED and self._window is not None:
            self._window.clear()
        if new is HALF_OPEN:
            self._half_open_since = self._clock()
        if old is not new or reason == "held":
            open_seconds = self.open_seconds if new is OPEN else 0.0
            self._on_change(
                StateChange(
                    name=self.name, old=old, new=new, failure_count=count, open_seconds=open_seconds, reason=reason
                )
            )

    def reset(self) -> None:
        """Back to closed as on the first day; ends a hold, too."""
        self.hold = None
        self._failed_at = self.last_failure = None
        self._set_open_until()
        self._openings = 0
        self._enter(CLOSED, "reset")

    def keep(self, hold: Hold) -> None:
        """Refuse everything, or let everything through, until `reset`."""
        self.hold = hold
        self._enter(OPEN if hold is Hold.ISOLATED else CLOSED, "held")
