"""What a breaker tells the world: metrics, listeners and the log. None of them can affect a call."""

from collections.abc import Callable, Sequence
from typing import Any

from common_core import CircuitBreakerState
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import concrete_capability
from huleedu_service_libs.resilience.metrics import CallCounts, CircuitBreakerMetrics
from huleedu_service_libs.resilience.metrics_bridge import METRIC_ERRORS, NoOpMetrics
from huleedu_service_libs.resilience.states import StateChange

__all__ = ["Listener", "Reports"]

Listener = Callable[[StateChange], None]
"""Told of each change of state, after it."""

logger = create_service_logger("huleedu_service_libs.resilience")


class Reports:
    """Reports of one breaker.

    Args:
        name: The circuit.
        service_name: The service.
        metrics: Where calls and states are counted, if anywhere.
        listeners: Who is told of changes.

    Attributes:
        metrics: As given.
        counts: Plain counters to add to, when the metrics read those at a scrape.
        pushes: Whether each call has to be reported with `ended` instead.
    """

    def __init__(
        self,
        name: str,
        service_name: str,
        metrics: CircuitBreakerMetrics | None,
        listeners: Sequence[Listener],
    ) -> None:
        self._name = name
        self._service_name = service_name
        self._listeners = tuple(listeners)
        self._complained = False
        self.metrics = metrics
        counts_of: Any = concrete_capability(metrics, "counts_of")
        self.counts: CallCounts | None = (
            None if counts_of is None else self._tell(counts_of, self._name, self._service_name)
        )
        self.pushes = self.counts is None and metrics is not None and not isinstance(metrics, NoOpMetrics)

    def ended(self, result: str) -> None:
        """A call has ended as ``success`` or ``failure``."""
        if self.counts is not None:
            setattr(self.counts, result, getattr(self.counts, result) + 1)
        elif self.metrics is not None:
            self._tell(self.metrics.increment_calls, self._name, result, self._service_name)

    def blocked(self) -> None:
        """A call was refused."""
        if self.counts is not None:
            self.counts.blocked += 1
        elif self.metrics is not None:
            self._tell(self.metrics.record_blocked_call, self._name, self._service_name)

    def totals(self) -> dict[str, int] | None:
        """Calls by result since the start, when they are counted here; else whoever is told of them knows."""
        counts = self.counts
        return None if counts is None else {name: getattr(counts, name) for name in CallCounts.__slots__}

    def state_is(self, state: CircuitBreakerState) -> None:
        """Show a state without a change."""
        if self.metrics is not None:
            self._tell(self.metrics.set_state, self._name, state, self._service_name)

    def state_changed(self, change: StateChange) -> None:
        """Log, count and pass on a transition."""
        log = logger.warning if change.new is CircuitBreakerState.OPEN else logger.info
        log(
            "circuit_breaker_state_changed",
            name=self._name,
            from_state=change.old.value,
            to_state=change.new.value,
            reason=change.reason,
            failure_count=change.failure_count,
            open_seconds=round(change.open_seconds, 3),
        )
        if self.metrics is not None:
            self._tell(self.metrics.record_state_change, self._name, change.old, change.new, self._service_name)
            self.state_is(change.new)
        for listener in self._listeners:
            self._tell(listener, change)

    def _tell(self, method: Callable[..., Any], *args: Any) -> Any:
        """Call a metric or a listener; what it raises is counted, and the first time logged."""
        try:
            return method(*args)
        except Exception as error:  # noqa: BLE001  # nothing that watches a call may change it
            METRIC_ERRORS.labels(circuit_name=self._name).inc()
            if not self._complained:
                self._complained = True
                logger.warning("circuit_breaker_report_failed", name=self._name, error=error_text(error))
            return None
