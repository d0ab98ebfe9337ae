"""Sections 9.3 and 9.4: the registry of breakers, and the collectors of services that breakers fill."""

import asyncio
from datetime import timedelta
from typing import Any
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError, CircuitBreakerRegistry
from huleedu_service_libs.resilience.metrics_bridge import NoOpMetrics, StateMapper, create_metrics_bridge

CLOSED, OPEN, HALF_OPEN = CircuitBreakerState.CLOSED, CircuitBreakerState.OPEN, CircuitBreakerState.HALF_OPEN
SOON = timedelta(seconds=0.2)


async def fine() -> str:
    """A call that goes well."""
    return "fine"


async def failing() -> None:
    """A call that fails."""
    raise ConnectionError("away")


def make(**options: Any) -> CircuitBreaker:
    """A breaker of two failures and two successes."""
    return CircuitBreaker(failure_threshold=2, recovery_timeout=SOON, success_threshold=2, name="b", **options)


async def fail(breaker: CircuitBreaker, times: int) -> None:
    """So many failures."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await breaker.call(failing)


@pytest.mark.contract("9.3-registry")
async def test_the_registry() -> None:
    """Kept by name, overwritten, told, and reset all at once."""
    registry, first, second = CircuitBreakerRegistry(), make(), make()
    registry.register("kafka_producer", first)
    registry.register("http_client", first)
    registry.register("kafka_producer", second)
    assert (registry.get("kafka_producer"), registry.get("nobody"), len(registry)) == (second, None, 2)
    assert bool(registry)
    await fail(second, 2)
    states = registry.get_all_states()
    assert {name: state["state"] for name, state in states.items()} == {
        "kafka_producer": "open",
        "http_client": "closed",
    }
    registry.reset_all()
    assert second.state is CLOSED


def _collectors(registry: CollectorRegistry) -> dict[str, Any]:
    base = ["service", "circuit_name"]
    return {
        "circuit_breaker_state": Gauge("svc_state", "d", base, registry=registry),
        "circuit_breaker_state_changes": Counter(
            "svc_changes", "d", [*base, "from_state", "to_state"], registry=registry
        ),
        "circuit_breaker_calls_total": Counter("svc_calls", "d", [*base, "result"], registry=registry),
    }


@pytest.mark.contract("9.4-state-gauge", "9.4-state-changes", "9.4-calls")
async def test_the_services_own_collectors() -> None:
    """A breaker fills them: its state as a number, each change, each call by its result."""
    registry = CollectorRegistry()
    breaker = make(metrics=create_metrics_bridge(_collectors(registry), "svc"), service_name="svc")
    labels = {"service": "svc", "circuit_name": "b"}
    await breaker.call(fine)
    assert registry.get_sample_value("svc_state", labels) == 0
    await fail(breaker, 2)
    assert registry.get_sample_value("svc_state", labels) == 1
    with pytest.raises(CircuitBreakerError):
        await breaker.call(fine)
    await asyncio.sleep(SOON.total_seconds() * 1.2)
    await breaker.call(fine)
    assert registry.get_sample_value("svc_state", labels) == 2
    results = [
        registry.get_sample_value("svc_calls_total", {**labels, "result": result})
        for result in ("success", "failure", "blocked")
    ]
    assert results == [2, 2, 1]
    for change in (("closed", "open"), ("open", "half_open")):
        wanted = {**labels, "from_state": change[0], "to_state": change[1]}
        assert registry.get_sample_value("svc_changes_total", wanted) == 1


@pytest.mark.contract("9.4-no-dictionary", "9.4-absent", "9.4-failures")
async def test_metrics_that_are_not_there_or_fail() -> None:
    """Without a dictionary nothing; without a key, with `None`, or with a collector that raises, the call goes on."""
    assert isinstance(create_metrics_bridge(None, "svc"), NoOpMetrics)
    assert isinstance(create_metrics_bridge({}, "svc"), NoOpMetrics)
    bad = Mock()
    bad.labels.side_effect = ValueError("wrong labels")
    keys = ("circuit_breaker_state", "circuit_breaker_state_changes", "circuit_breaker_calls_total")
    for found in ({"other": 1}, dict.fromkeys(keys), dict.fromkeys(keys, bad)):
        breaker = make(metrics=create_metrics_bridge(found, "svc"))
        assert await breaker.call(fine) == "fine"
        await fail(breaker, 2)
        with pytest.raises(CircuitBreakerError):
            await breaker.call(fine)
    bad.labels.assert_called()


@pytest.mark.contract("9.4-state-mapper")
@pytest.mark.parametrize(("state", "number"), [(CLOSED, 0), (OPEN, 1), (HALF_OPEN, 2)])
def test_states_as_numbers(state: CircuitBreakerState, number: int) -> None:
    """Closed is 0, open 1, half-open 2, as dashboards have it."""
    assert StateMapper.to_numeric(state) == number
