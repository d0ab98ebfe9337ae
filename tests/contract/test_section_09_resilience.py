"""Section 9: circuit breakers, their registry and metrics, and the ports of the HTTP client."""

from datetime import datetime, timedelta
from functools import partial

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs.http_client import ContentServiceConfig, HttpClientConfig
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError, CircuitBreakerRegistry
from huleedu_service_libs.resilience.metrics_bridge import create_metrics_bridge
from tests.contract.signatures import Wanted, lines

METRICS = """
def {}.record_state_change(circuit_name, from_state, to_state, service_name)
def {}.set_state(circuit_name, state, service_name)
def {}.increment_calls(circuit_name, result, service_name)
def {}.record_blocked_call(circuit_name, service_name)
"""
HTTP = """
async {}.get(url, correlation_id, timeout_seconds=10, headers=None, **context)
async {}.post(url, data, correlation_id, timeout_seconds=10, headers=None, **context)
"""
CONTENT = """
async {}.fetch_content(storage_id, correlation_id, essay_id=None)
async {}.store_content(content, content_type, correlation_id, essay_id=None)
"""
SIGNATURES = """
class resilience:CircuitBreakerError(message, last_failure_time=None)
class resilience:CircuitBreaker(failure_threshold=5, recovery_timeout=timedelta(seconds=60), success_threshold=2, expected_exception=Exception, name=None, tracer=None, metrics=None, service_name=None)
async resilience:CircuitBreaker.call(func, *args, **kwargs)
def resilience:CircuitBreaker.get_state()
def resilience:CircuitBreaker.reset()
def resilience:circuit_breaker(failure_threshold=5, recovery_timeout=timedelta(seconds=60), success_threshold=2, expected_exception=Exception, name=None)
class resilience:CircuitBreakerRegistry()
def resilience:CircuitBreakerRegistry.register(name, breaker)
def resilience:CircuitBreakerRegistry.get(name)
def resilience:CircuitBreakerRegistry.get_all_states()
def resilience:CircuitBreakerRegistry.reset_all()
def resilience.metrics_bridge:create_metrics_bridge(metrics_dict, service_name)
class resilience.metrics_bridge:PrometheusCircuitBreakerMetrics(metrics_dict, service_name)
class resilience.metrics_bridge:NoOpMetrics(service_name)
class http_client:BaseHttpClient(session, service_name, config=...)
class http_client:ContentServiceClient(http_client, config)
class resilience.http_client:CircuitBreakerHttpClient(delegate, circuit_breaker)
class resilience.content_service:CircuitBreakerContentServiceClient(delegate, circuit_breaker)
"""
TABLE = (
    SIGNATURES
    + METRICS.replace("{}", "resilience.metrics_bridge:PrometheusCircuitBreakerMetrics")
    + METRICS.replace("{}", "resilience.metrics_bridge:NoOpMetrics")
    + METRICS.replace("{}", "resilience.metrics_bridge:CircuitBreakerMetrics")
    + HTTP.replace("{}", "http_client:HttpClientProtocol")
    + HTTP.replace("{}", "resilience.http_client:CircuitBreakerHttpClient")
    + CONTENT.replace("{}", "http_client:ContentServiceClientProtocol")
    + CONTENT.replace("{}", "http_client:ContentServiceClient")
    + CONTENT.replace("{}", "resilience.content_service:CircuitBreakerContentServiceClient")
)


@pytest.mark.parametrize("wanted", lines("09 resilience", TABLE), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


async def _fail() -> None:
    raise ValueError("x")


async def test_an_open_breaker() -> None:
    """It says its name, keeps its count of failures and tells its state in five keys."""
    breaker = CircuitBreaker(failure_threshold=1, name="b")
    with pytest.raises(ValueError, match="x"):
        await breaker.call(_fail)
    with pytest.raises(CircuitBreakerError, match="Circuit breaker 'b' is OPEN"):
        await breaker.call(_fail)
    state = breaker.get_state()
    assert set(state) == {"name", "state", "failure_count", "success_count", "last_failure_time"}
    assert (state["state"], state["failure_count"]) == ("open", 1)
    breaker.reset()
    assert (breaker.state, breaker.failure_count, breaker.last_failure_time) == (CircuitBreakerState.CLOSED, 0, None)


async def test_state_and_a_naive_time_can_be_assigned() -> None:
    """Assigned, they decide about the next call: blocked while fresh, tried when the time is over."""
    breaker = CircuitBreaker(recovery_timeout=timedelta(seconds=30), success_threshold=1)
    breaker.state = CircuitBreakerState.OPEN
    breaker.last_failure_time = datetime.now()  # noqa: DTZ005
    with pytest.raises(CircuitBreakerError):
        await breaker.call(partial(int, "1"))
    breaker.last_failure_time = datetime.now() - timedelta(seconds=31)  # noqa: DTZ005
    assert (await breaker.call(partial(int, "1")), breaker.state) == (1, CircuitBreakerState.CLOSED)


def test_defaults() -> None:
    """Names when none are given; an empty registry is falsy."""
    breaker = CircuitBreaker()
    assert (breaker.name, breaker.service_name) == ("circuit_breaker", "unknown")
    assert not CircuitBreakerRegistry()
    http = HttpClientConfig()
    assert (http.default_timeout_seconds, http.max_retries, http.retry_base_delay) == (10, 3, 1.0)
    assert (http.retry_max_delay, http.retry_exponential_base, http.connection_pool_size) == (30.0, 2.0, 20)
    content = ContentServiceConfig(base_url="http://c/", fetch_endpoint_path="/v1/")
    assert (content.get_fetch_url("s"), content.get_store_url()) == ("http://c/v1/s", "http://c")


def test_the_services_own_collectors_are_filled() -> None:
    """Looked up by three keys; labels and the number of a state; absent and None are passed over."""
    registry, base = CollectorRegistry(), ["service", "circuit_name"]
    found = {
        "circuit_breaker_state": Gauge("s_state", "d", base, registry=registry),
        "circuit_breaker_state_changes": None,
        "circuit_breaker_calls_total": Counter("s_calls", "d", [*base, "result"], registry=registry),
    }
    metrics = create_metrics_bridge(found, "svc")
    metrics.set_state("b", CircuitBreakerState.HALF_OPEN, "svc")
    metrics.record_blocked_call("b", "svc")
    metrics.record_state_change("b", CircuitBreakerState.CLOSED, CircuitBreakerState.OPEN, "svc")
    labels = {"service": "svc", "circuit_name": "b"}
    assert registry.get_sample_value("s_state", labels) == 2
    assert registry.get_sample_value("s_calls_total", {**labels, "result": "blocked"}) == 1
    create_metrics_bridge({}, "svc").record_blocked_call("b", "svc")
