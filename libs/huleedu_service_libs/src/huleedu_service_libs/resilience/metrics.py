"""What a breaker reports, and collectors of our own for it.

`StandardCircuitBreakerMetrics` is for services that bring no collectors; ``metrics_bridge`` fits
collectors that a service has made. A breaker reports through the protocol; metrics whose *class*
has ``counts_of`` are handed plain counters instead, that a scrape reads: a call then costs an addition.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from threading import Lock
from typing import Protocol

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from common_core import CircuitBreakerState

__all__ = ["CallCounts", "CircuitBreakerMetrics", "StandardCircuitBreakerMetrics", "StateMapper"]


class CircuitBreakerMetrics(Protocol):
    """What a breaker tells. Whatever a method raises is counted and swallowed by the breaker.

    ``circuit_name`` and ``service_name`` are those that the breaker was made with; labels, so there are few of them.
    """

    def record_state_change(
        self, circuit_name: str, from_state: CircuitBreakerState, to_state: CircuitBreakerState, service_name: str
    ) -> None:
        """The circuit has changed its state."""
        ...

    def set_state(self, circuit_name: str, state: CircuitBreakerState, service_name: str) -> None:
        """The circuit is in this state."""
        ...

    def increment_calls(self, circuit_name: str, result: str, service_name: str) -> None:
        """A call has ended as ``success`` or ``failure``, or was ``blocked``."""
        ...

    def record_blocked_call(self, circuit_name: str, service_name: str) -> None:
        """A call was refused."""
        ...


class StateMapper:
    """States as numbers, for gauges: closed 0, open 1, half-open 2."""

    _NUMBERS = (("closed", 0), ("open", 1), ("half_open", 2))

    @classmethod
    def to_numeric(cls, state: CircuitBreakerState | str) -> int:
        """The number of a state, or of its value.

        Raises:
            ValueError: There is no such state.
        """
        return dict(cls._NUMBERS)[CircuitBreakerState(state).value]


class CallCounts:
    """Calls of one circuit by their result."""

    __slots__ = ("blocked", "failure", "success")

    def __init__(self) -> None:
        self.success = self.failure = self.blocked = 0


class StandardCircuitBreakerMetrics:
    """Counts the calls and states of any number of circuits in collectors of its own.

    Exposes ``circuit_breaker_state``, ``circuit_breaker_state_changes_total`` and
    ``circuit_breaker_calls_total``, labelled ``service`` and ``circuit_name``.

    Args:
        registry: Where they are exposed. A registry that has these names already leaves them
            uncollected rather than fail a start.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._lock = Lock()
        self._counts: dict[tuple[str, str], CallCounts] = {}
        self._states: dict[tuple[str, str], int] = {}
        self._changes: dict[tuple[str, str, str, str], int] = {}
        with suppress(ValueError):
            registry.register(self)

    def counts_of(self, circuit_name: str, service_name: str) -> CallCounts:
        """The counters of a circuit, for its breaker to add to."""
        with self._lock:
            return self._counts.setdefault((service_name, circuit_name), CallCounts())

    def record_state_change(
        self, circuit_name: str, from_state: CircuitBreakerState, to_state: CircuitBreakerState, service_name: str
    ) -> None:
        """See `CircuitBreakerMetrics`."""
        key = (service_name, circuit_name, from_state.value, to_state.value)
        with self._lock:
            self._changes[key] = self._changes.get(key, 0) + 1

    def set_state(self, circuit_name: str, state: CircuitBreakerState, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        with self._lock:
            self._states[service_name, circuit_name] = StateMapper.to_numeric(state)

    def increment_calls(self, circuit_name: str, result: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        counts = self.counts_of(circuit_name, service_name)
        setattr(counts, result, getattr(counts, result) + 1)

    def record_blocked_call(self, circuit_name: str, service_name: str) -> None:
        """See `CircuitBreakerMetrics`."""
        self.counts_of(circuit_name, service_name).blocked += 1

    def describe(self) -> Iterator[Metric]:
        """The empty collectors, so that a registry knows their names."""
        yield from self._families()

    def collect(self) -> Iterable[Metric]:
        """What Prometheus asks for at a scrape."""
        state, changes, calls = self._families()
        with self._lock:
            for labels, number in self._states.items():
                state.add_metric(labels, number)
            for change, number in self._changes.items():
                changes.add_metric(change, number)
            for labels, counts in self._counts.items():
                for result in ("success", "failure", "blocked"):
                    calls.add_metric((*labels, result), getattr(counts, result))
        return [state, changes, calls]

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily]:
        base = ["service", "circuit_name"]
        return (
            GaugeMetricFamily("circuit_breaker_state", "0 closed, 1 open, 2 half-open", labels=base),
            CounterMetricFamily(
                "circuit_breaker_state_changes", "State changes", labels=[*base, "from_state", "to_state"]
            ),
            CounterMetricFamily("circuit_breaker_calls", "Calls by result", labels=[*base, "result"]),
        )
