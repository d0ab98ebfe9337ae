"""Metrics, registry and spans of breakers."""

from typing import Any
from unittest.mock import Mock

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter, Gauge

from common_core import CircuitBreakerState
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError, CircuitBreakerRegistry
from huleedu_service_libs.resilience.metrics import StandardCircuitBreakerMetrics, StateMapper
from huleedu_service_libs.resilience.metrics_bridge import (
    NoOpMetrics,
    PrometheusCircuitBreakerMetrics,
    create_metrics_bridge,
)

from .test_circuit_breaker import CLOSED, HALF_OPEN, OPEN, fails, make, succeed
from .times import Time


def _collectors(registry: CollectorRegistry) -> dict[str, Any]:
    base = ["service", "circuit_name"]
    return {
        "circuit_breaker_state": Gauge("s_circuit_breaker_state", "d", base, registry=registry),
        "circuit_breaker_state_changes": Counter(
            "s_circuit_breaker_state_changes", "d", [*base, "from_state", "to_state"], registry=registry
        ),
        "circuit_breaker_calls_total": Counter(
            "s_circuit_breaker_calls_total", "d", [*base, "result"], registry=registry
        ),
    }


async def _story(breaker: CircuitBreaker) -> None:
    """Two successes, three failures, two refusals."""
    await breaker.call(succeed)
    await breaker.call(succeed)
    await fails(breaker, 3)
    for _ in range(2):
        with pytest.raises(CircuitBreakerError):
            await breaker.call(succeed)


@pytest.mark.parametrize("prefix", ["s_", ""], ids=["bridge", "standard"])
async def test_both_metrics_tell_the_same_story(prefix: str) -> None:
    """Calls by result, changes and state, in the service's collectors or in ours."""
    registry = CollectorRegistry()
    metrics = create_metrics_bridge(_collectors(registry), "svc") if prefix else StandardCircuitBreakerMetrics(registry)
    breaker = make(Time(), metrics=metrics, service_name="svc")
    labels = {"service": "svc", "circuit_name": "db"}
    assert registry.get_sample_value(f"{prefix}circuit_breaker_state", labels) == 0
    await _story(breaker)
    calls = {
        result: registry.get_sample_value(f"{prefix}circuit_breaker_calls_total", {**labels, "result": result})
        for result in ("success", "failure", "blocked")
    }
    assert calls == {"success": 2, "failure": 3, "blocked": 2}
    assert registry.get_sample_value(f"{prefix}circuit_breaker_state", labels) == 1
    change = {**labels, "from_state": "closed", "to_state": "open"}
    assert registry.get_sample_value(f"{prefix}circuit_breaker_state_changes_total", change) == 1


@pytest.mark.parametrize("collectors", [None, {}])
def test_without_collectors_nothing_is_reported(collectors: dict[str, Any] | None) -> None:
    """A falsy dictionary gives metrics that do nothing."""
    assert isinstance(create_metrics_bridge(collectors, "svc"), NoOpMetrics)


async def test_absent_and_none_collectors_are_skipped() -> None:
    """Some keys may be missing, some values may be None."""
    registry = CollectorRegistry()
    collectors: dict[str, Any] = {**_collectors(registry), "circuit_breaker_state": None}
    del collectors["circuit_breaker_state_changes"]
    await _story(make(Time(), metrics=create_metrics_bridge(collectors, "svc"), service_name="svc"))
    labels = {"service": "svc", "circuit_name": "db", "result": "failure"}
    assert registry.get_sample_value("s_circuit_breaker_calls_total", labels) == 3


async def test_metrics_that_fail_never_affect_a_call() -> None:
    """Wrong labels in a collector, or metrics that raise at every report: calls go on as without."""
    wrong = {"circuit_breaker_calls_total": Counter("wrong", "d", ["other"], registry=None)}
    broken = Mock(
        spec=NoOpMetrics,
        **{
            f"{name}.side_effect": RuntimeError("metric")
            for name in ("record_state_change", "set_state", "increment_calls", "record_blocked_call")
        },
    )
    for metrics in (PrometheusCircuitBreakerMetrics(wrong, "svc"), broken):
        breaker = make(Time(), metrics=metrics)
        await _story(breaker)
        assert breaker.state is OPEN


async def test_reports_of_any_implementation() -> None:
    """Metrics of a service's own get each report with the names of the protocol."""
    metrics = Mock()
    await _story(make(Time(), metrics=metrics, service_name="svc"))
    assert [call.args for call in metrics.increment_calls.call_args_list] == [
        ("db", "success", "svc"),
        ("db", "success", "svc"),
        ("db", "failure", "svc"),
        ("db", "failure", "svc"),
        ("db", "failure", "svc"),
    ]
    assert metrics.record_blocked_call.call_count == 2
    metrics.record_state_change.assert_called_once_with("db", CLOSED, OPEN, "svc")
    metrics.set_state.assert_called_with("db", OPEN, "svc")


def test_states_as_numbers() -> None:
    """Closed 0, open 1, half-open 2."""
    assert [StateMapper.to_numeric(state) for state in (CLOSED, OPEN, HALF_OPEN)] == [0, 1, 2]
    assert StateMapper.to_numeric("half_open") == 2


def test_standard_metrics_twice_on_one_registry() -> None:
    """A second set on the same registry is no error, and leaves the first one exposed."""
    registry = CollectorRegistry()
    first, second = StandardCircuitBreakerMetrics(registry), StandardCircuitBreakerMetrics(registry)
    first.set_state("db", OPEN, "svc")
    second.set_state("db", CLOSED, "svc")
    assert registry.get_sample_value("circuit_breaker_state", {"service": "svc", "circuit_name": "db"}) == 1


async def test_registry() -> None:
    """Falsy when empty, lists states, replaces with a warning, resets all; constructible anywhere."""
    registry = CircuitBreakerRegistry()
    assert not registry
    assert registry.get("kafka_producer") is None
    breaker, other = make(Time()), make(Time())
    registry.register("kafka_producer", other)
    registry.register("kafka_producer", breaker)
    await fails(breaker, 3)
    assert registry
    assert len(registry) == 1
    assert registry.get("kafka_producer") is breaker
    assert registry.get_all_states() == {"kafka_producer": breaker.get_state()}
    registry.reset_all()
    assert breaker.state is CircuitBreakerState.CLOSED


async def test_a_span_for_each_call() -> None:
    """Named after circuit and function, with state and result; the exception stands on it once; a refusal marks the caller's."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    breaker = make(Time(), failure_threshold=1, tracer=tracer)
    assert breaker.tracer is tracer
    await breaker.call(succeed)
    await fails(breaker)
    with tracer.start_as_current_span("caller"), pytest.raises(CircuitBreakerError):
        await breaker.call(succeed)
    good, bad, caller = exporter.get_finished_spans()
    assert good.name == "circuit_breaker.db.succeed"
    assert dict(good.attributes or {}) == {
        "circuit.name": "db",
        "circuit.state": "closed",
        "circuit.failure_count": 0,
        "circuit.success_count": 0,
        "circuit.call_result": "success",
    }
    assert bad.name == "circuit_breaker.db.fail"
    assert (bad.attributes or {})["circuit.call_result"] == "failure"
    assert len(bad.events) == 1
    assert dict(caller.attributes or {}) == {"circuit.blocked": True}
