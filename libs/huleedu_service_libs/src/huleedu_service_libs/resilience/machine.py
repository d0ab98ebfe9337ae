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
from datetime import datetime, timedelta

from common_core import CircuitBreakerState
from huleedu_service_libs import _clock
from huleedu_service_libs.resilience.open_time import OpenTime
from huleedu_service_libs.resilience.policy import BreakerPolicy
from huleedu_service_libs.resilience.ramp import RampUp
from huleedu_service_libs.resilience.states import CLOSED, HALF_OPEN, IS_OPEN, OPEN, Hold, StateChange
from huleedu_service_libs.resilience.windows import FAILED, SLOW, make_window

__all__ = ["StateMachine"]


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
        open_time: How long it stays open, and since when.
        last_change: The latest transition; ``None`` while it is as constructed.
    """

    __slots__ = (
        "_clock",
        "_half_open_since",
        "_now",
        "_on_change",
        "_ramp",
        "_slow_apart",
        "_slow_seconds",
        "_state",
        "_trials",
        "_window",
        "era",
        "failure_count",
        "failure_threshold",
        "hold",
        "last_change",
        "name",
        "open_time",
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
        self.success_threshold = success_threshold
        self.policy = policy
        self.hold: Hold | None = None
        self.era = 0
        self.failure_count = self.success_count = 0
        self.passage_free = True
        self.refused_for: float | None = None
        self.last_change: StateChange | None = None
        self._state = CLOSED
        self.open_time = OpenTime(recovery_timeout, policy, clock, now, jitter)
        self._window = make_window(policy.window)
        self._slow_apart = policy.window is not None and policy.window.slow_rate is not None
        self._slow_seconds = float("inf") if policy.slow_call_s is None else policy.slow_call_s
        self._clock, self._now, self._on_change = clock, now, on_change
        self._half_open_since = 0.0
        self._trials = 0
        self._ramp: RampUp | None = None

    # What services read and assign

    @property
    def state(self) -> CircuitBreakerState:
        """The state; assigning one makes it so, as if the circuit had come there by itself."""
        return self._state

    @state.setter
    def state(self, state: CircuitBreakerState) -> None:
        self.open_time.begin_plain()
        self._enter(CircuitBreakerState(state), "assigned")

    @property
    def last_failure_time(self) -> datetime | None:
        """When a failure was last counted. Assigned values may be naive: local time is meant."""
        return self.open_time.last_failure

    @last_failure_time.setter
    def last_failure_time(self, moment: datetime | None) -> None:
        self.open_time.failed_at(moment)

    @property
    def recovery_timeout(self) -> timedelta:
        """Open time, before growth and jitter. Assigning one changes the opening under way, too."""
        return self.open_time.timeout

    @recovery_timeout.setter
    def recovery_timeout(self, timeout: timedelta) -> None:
        self.open_time.timeout = timeout

    # Admission

    def admit(self, now: float) -> str | None:
        """Let one call in, or say why not. Only asked when the passage is not free."""
        self.refused_for = None
        if self.hold is Hold.ISOLATED:
            return IS_OPEN
        if self._state is OPEN:
            left = self.open_time.until - now
            if left > 0:
                self.refused_for = left
                return IS_OPEN
            self._enter(HALF_OPEN, "trial")
            if self._state is OPEN:  # a listener has isolated it meanwhile
                return IS_OPEN
        if self._state is HALF_OPEN:
            return self._admit_trial(now)
        return self._admit_by_ramp(now)

    def retry_after(self, now: float) -> float:
        """Seconds until an open circuit tries again; 0 when it may."""
        return max(0.0, self.open_time.until - now) if self._state is OPEN else 0.0

    def try_now(self) -> None:
        """End the open time: the next call is a trial."""
        if self._state is OPEN and self.hold is None:
            self._enter(HALF_OPEN, "trial")

    def _admit_trial(self, now: float) -> str | None:
        limit = self.policy.half_open_limit_s
        if limit is not None and now - self._half_open_since >= limit:
            self._open(now, "undecided")
            self.refused_for = self.open_time.seconds
            return IS_OPEN
        permits = self.policy.half_open_permits or max(1, self.success_threshold)
        if self._trials >= permits:
            return f"is HALF_OPEN, and its {permits} trial calls are under way"
        self._trials += 1
        return None

    def _admit_by_ramp(self, now: float) -> str | None:
        ramp = self._ramp
        if ramp is not None and not ramp.is_over(now):
            return ramp.admit(now)
        self._ramp = None
        self.passage_free = True
        return None

    # Results

    def succeeded(self, era: int, now: float, seconds: float) -> None:
        """A call admitted in ``era`` has succeeded after ``seconds``."""
        if era != self.era:
            return
        if seconds > self._slow_seconds:
            self._slow(now)
        elif self._state is HALF_OPEN:
            self._trial_succeeded(now)
        else:
            self.failure_count = 0
            window = self._window
            if window is not None and window.record(0, now):
                self._open(now, "failures")

    def failed(self, era: int, now: float) -> None:
        """A call admitted in ``era`` has failed."""
        if era == self.era:
            self._count_failure(now, FAILED)

    def neutral(self, era: int) -> None:
        """A call admitted in ``era`` has ended without saying anything about the dependency."""
        if era == self.era and self._state is HALF_OPEN:
            self._trials -= 1

    def _slow(self, now: float) -> None:
        window = self._window
        if self.hold is not None:
            return
        if window is None or not self._slow_apart or self._state is HALF_OPEN:
            self._count_failure(now, FAILED | SLOW)
            return
        self.failure_count = 0
        if window.record(SLOW, now):
            self._open(now, "failures")

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
        self.open_time.failed(now)

    def _trial_succeeded(self, now: float) -> None:
        self._trials -= 1
        self.success_count += 1
        if self.success_count >= self.success_threshold:
            self.open_time.recovered()
            self._enter(CLOSED, "recovered")
            if self.policy.ramp is not None and self.passage_free and self.hold is None:
                self._ramp, self.passage_free = RampUp(self.policy.ramp, now), False

    # Transitions

    def _open(self, now: float, reason: str) -> None:
        self.open_time.begin(now)
        self._enter(OPEN, reason)

    def _enter(self, new: CircuitBreakerState, reason: str, *, told: bool = False) -> None:
        old, self._state = self._state, new
        self.era += 1
        self._trials = 0
        self._ramp = None
        self.passage_free = self.hold is Hold.FORCED_CLOSED or (new is CLOSED and self.hold is None)
        count = self.failure_count
        if new is not OPEN:
            self.failure_count = self.success_count = 0
        if new is CLOSED and self._window is not None:
            self._window.clear()
        if new is HALF_OPEN:
            self._half_open_since = self._clock()
        if old is not new or told:
            self._tell(old, new, count, reason)

    def _tell(self, old: CircuitBreakerState, new: CircuitBreakerState, failure_count: int, reason: str) -> None:
        self.last_change = StateChange(
            name=self.name,
            old=old,
            new=new,
            failure_count=failure_count,
            open_seconds=self.open_time.seconds if new is OPEN else 0.0,
            reason=reason,
            at=self._now(),
        )
        self._on_change(self.last_change)

    def reset(self) -> None:
        """Back to closed as on the first day; ends a hold, too."""
        held, self.hold = self.hold is not None, None
        self.open_time.forget()
        self._enter(CLOSED, "reset", told=held)

    def keep(self, hold: Hold) -> None:
        """Refuse everything, or let everything through, until `reset`."""
        self.hold = hold
        self._enter(OPEN if hold is Hold.ISOLATED else CLOSED, "held", told=True)
