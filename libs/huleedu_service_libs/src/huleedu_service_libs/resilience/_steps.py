"""The steps of one call through a breaker, and what of its parts the world may see.

`CircuitBreaker` sets the parts up and takes the steps in a row, `Guard` around a block. Which calls pass
is decided in ``machine``; here its decisions meet exceptions, results, metrics and spans.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from opentelemetry.trace import Tracer

from common_core import CircuitBreakerState
from huleedu_service_libs import _clock
from huleedu_service_libs.resilience._attributes import FromMachine
from huleedu_service_libs.resilience._reports import Listener, Reports
from huleedu_service_libs.resilience._spans import CallSpans
from huleedu_service_libs.resilience.errors import CallTimeoutError, CircuitBreakerError
from huleedu_service_libs.resilience.machine import StateMachine
from huleedu_service_libs.resilience.metrics import CallCounts, CircuitBreakerMetrics
from huleedu_service_libs.resilience.policy import BreakerPolicy
from huleedu_service_libs.resilience.states import IS_OPEN, Hold, StateChange
from huleedu_service_libs.resilience.timers import SharedTimeLimit, Watch

__all__ = ["CallSteps"]


class CallSteps:
    """Base of `CircuitBreaker`, which constructs it; what is public here is documented there."""

    name: str
    service_name: str
    expected_exception: type[Exception] | tuple[type[Exception], ...]
    policy: BreakerPolicy
    _rejects: Callable[[Any], bool] | None
    _clock: _clock.Clock
    _machine: StateMachine
    _spans: CallSpans
    _limit: SharedTimeLimit | None
    _listeners: tuple[Listener, ...]
    _reports: Reports
    _counts: CallCounts | None
    _pushes: bool
    _open_text: str

    failure_threshold = FromMachine[int]()
    recovery_timeout = FromMachine[timedelta]()
    success_threshold = FromMachine[int]()
    failure_count = FromMachine[int]()
    success_count = FromMachine[int]()
    state = FromMachine[CircuitBreakerState]()
    last_failure_time = FromMachine[datetime | None]()

    @property
    def metrics(self) -> CircuitBreakerMetrics | None:
        """Told of calls and states; may be assigned."""
        return self._reports.metrics

    @metrics.setter
    def metrics(self, metrics: CircuitBreakerMetrics | None) -> None:
        self._reports = Reports(self.name, self.service_name, metrics, self._listeners)
        self._counts, self._pushes = self._reports.counts, self._reports.pushes

    @property
    def tracer(self) -> Tracer:
        """Makes the spans."""
        return self._spans.tracer

    @property
    def hold(self) -> Hold | None:
        """Whether somebody has isolated or forced the circuit by hand."""
        return self._machine.hold

    @property
    def last_change(self) -> StateChange | None:
        """The latest change of state: when, and why. ``None`` while there was none."""
        return self._machine.last_change

    def begin(self) -> tuple[int, float]:
        """Admit a call; its era and when it began. End it with `returned`, `failed` or `raised`.

        Raises:
            CircuitBreakerError: The circuit lets nothing through.
        """
        machine, begun = self._machine, self._clock()
        if not machine.passage_free:
            refusal = machine.admit(begun)
            if refusal is not None:
                raise self._refused(begun, refusal)
        return machine.era, begun

    def returned(self, era: int, begun: float, result: Any) -> None:
        """A call that was admitted in ``era`` at ``begun`` has returned ``result``."""
        if self._rejects is not None:
            try:
                rejected = self._rejects(result)
            except BaseException:
                self._machine.neutral(era)
                raise
            if rejected:
                self.failed(era)
                return
        now = self._clock()
        self._machine.succeeded(era, now, now - begun)
        if self._counts is not None:
            self._counts.success += 1
        elif self._pushes:
            self._reports.ended("success")

    def failed(self, era: int) -> None:
        """A call that was admitted in ``era`` has failed."""
        self._machine.failed(era, self._clock())
        self._reports.ended("failure")

    def raised(self, era: int, error: BaseException) -> None:
        """A call that was admitted in ``era`` has raised ``error``."""
        try:
            failure = self._is_failure(error)
        except BaseException:
            self._machine.neutral(era)
            raise
        if failure:
            self.failed(era)
        else:
            self._machine.neutral(era)

    def _refused(self, now: float, refusal: str) -> CircuitBreakerError:
        machine, spans = self._machine, self._spans
        if self._counts is not None:
            self._counts.blocked += 1
        elif self._pushes:
            self._reports.blocked()
        if spans.on or now >= spans.look_at:
            spans.mark_blocked(now)
        text = self._open_text if refusal is IS_OPEN else f"Circuit breaker '{self.name}' {refusal}"
        return CircuitBreakerError(text, machine.open_time.last_failure, machine.refused_for)

    def _changed(self, change: StateChange) -> None:
        self._reports.state_changed(change)  # looked up now: metrics may have been assigned since

    def _raise_if_late(self, era: int, watch: Watch | None, error: BaseException) -> None:
        """Raise `CallTimeoutError` in place of the cancellation with which our time limit ended the call."""
        if watch is None or self._limit is None or not watch.expired:
            return
        late = self._limit.explain(watch, error)
        if late is not error:
            self.raised(era, late)
            raise late from error

    def _is_failure(self, error: BaseException) -> bool:
        if isinstance(error, CallTimeoutError) and self._limit is not None and error.name == self._limit.name:
            return True
        if not isinstance(error, self.expected_exception) or self.policy.spares(error):
            return False
        return self.policy.is_failure is None or self.policy.is_failure(error)
