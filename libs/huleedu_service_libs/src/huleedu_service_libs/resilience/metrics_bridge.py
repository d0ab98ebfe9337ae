"""Fits a breaker's reports to the Prometheus collectors that a service has made.

Services keep collectors in a dictionary, under the keys ``circuit_breaker_state``,
``circuit_breaker_state_changes`` and ``circuit_breaker_calls_total``. A key that is absent, or
whose value is ``None``, is skipped.
"""

from collections.abc import Mapping
from typing import Any

from common_core import CircuitBreakerState
from huleedu_service_libs._metrics import counter
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.resilience.metrics import CircuitBreakerMetrics, StateMapper

__all__ = [
    "METRIC_ERRORS",
    "CircuitBreakerMetrics",
    "NoOpMetrics",
    "PrometheusCircuitBreakerMetrics",
    "StateMapper",
    "create_metrics_bridge",
]

CALLS = "circuit_breaker_calls_total"

logger = create_service_logger("huleedu_service_libs.resilience")

METRIC_ERRORS = counter(
    "huleedu_resilience_metric_errors_total",
    "Reports of breakers that a metric did not take; the call went on",
    ("circuit_name",),
)


def create_metrics_bridge(metrics_dict: dict[str, Any] | None, service_name: str) -> CircuitBreakerMetrics:
    """Reports into the collectors of ``metrics_dict``; nowhere when that is empty or ``None``."""
    if not metrics_dict:
        return NoOpMetrics(service_name)
    return PrometheusCircuitBreakerMetrics(metrics_dict, service_name)


class PrometheusCircuitBreakerMetrics:
    """Reports into collectors of the service. Never raises: errors are counted, the first is logged.

    Args:
        metrics_dict: The collectors; looked up here at each report, so that they may be added later.
        service_name: Used when a report names no service.
    """

    def __init__(self, metrics_dict: Mapping[str, Any], service_name: str) -> None:
        self.metrics_dict = metrics_dict
        self.service_name = service_name
        self._calls: dict[tuple[str, str, str], tuple[Any, Any]] = {}
        self._complained = False

    def record_state_change(
        self, circuit_name: str, from_state: CircuitBreakerState, to_state: CircuitBreakerState, service_name: str
    ) -> None:
        """See `CircuitBreakerMetrics`."""
        labels = {
            "service": service_name or self.service_name,
            "circuit_name": circuit_name,
            "from_state": _text(from_state),
            "to_state": _text(to_state),
        }
        self._report("circuit_breaker_state_changes", labels)

    def set_state(self, circuit_name: str, state: CircuitBreakerState, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        labels = {"service": service_name or self.service_name, "circuit_name": circuit_name}
        self._report("circuit_breaker_state", labels, state)

    def increment_calls(self, circuit_name: str, result: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        collector = self.metrics_dict.get(CALLS)
        known = self._calls.get((circuit_name, result, service_name))
        if known is None or known[0] is not collector:  # looking the child up costs more than counting
            labels = {"service": service_name or self.service_name, "circuit_name": circuit_name, "result": result}
            child = self._report(CALLS, labels)
            if child is not None:
                self._calls[circuit_name, result, service_name] = (collector, child)
        else:
            known[1].inc()

    def record_blocked_call(self, circuit_name: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        self.increment_calls(circuit_name, "blocked", service_name)

    def _report(self, key: str, labels: dict[str, str], state: CircuitBreakerState | None = None) -> Any:
        """Count, or set a gauge; the labelled collector, or ``None`` where that is not possible."""
        try:
            collector = self.metrics_dict.get(key)
            if collector is None:
                return None
            child = collector.labels(**labels)
            if state is None:
                child.inc()
            else:
                child.set(StateMapper.to_numeric(state))
        except Exception as error:  # noqa: BLE001  # a metric must never affect a call
            METRIC_ERRORS.labels(circuit_name=labels["circuit_name"]).inc()
            if not self._complained:
                self._complained = True
                logger.warning("circuit_breaker_metric_failed", metric=key, error=error_text(error))
            return None
        return child


class NoOpMetrics:
    """Reports nowhere.

    Args:
        service_name: The service, for symmetry with the other.
    """

    def __init__(self, service_name: str) -> None:
        self.service_name = service_name

    def record_state_change(
        self, circuit_name: str, from_state: CircuitBreakerState, to_state: CircuitBreakerState, service_name: str
    ) -> None:
        """See `CircuitBreakerMetrics`."""

    def set_state(self, circuit_name: str, state: CircuitBreakerState, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""

    def increment_calls(self, circuit_name: str, result: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""

    def record_blocked_call(self, circuit_name: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""


def _text(state: CircuitBreakerState | str) -> str:
    return state.value if isinstance(state, CircuitBreakerState) else str(state)
