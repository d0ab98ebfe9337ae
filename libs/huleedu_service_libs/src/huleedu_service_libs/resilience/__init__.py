"""Guards around calls to what may fail: breakers, retries, time limits, bulkheads, fallbacks.

The breaker and its registry are here at once: the function ``circuit_breaker`` has the name of its
module, so it must be bound after the module was loaded. The rest is fetched when first used.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports
from huleedu_service_libs.resilience.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerState,
    circuit_breaker,
)
from huleedu_service_libs.resilience.policy import BreakerPolicy, CountWindow, Ramp, TimeWindow
from huleedu_service_libs.resilience.registry import CircuitBreakerRegistry

if TYPE_CHECKING:
    from huleedu_service_libs.resilience.budget import RetryBudget
    from huleedu_service_libs.resilience.content_service import CircuitBreakerContentServiceClient
    from huleedu_service_libs.resilience.http_client import CircuitBreakerHttpClient
    from huleedu_service_libs.resilience.limits import Bulkhead, TimeLimit
    from huleedu_service_libs.resilience.metrics import StandardCircuitBreakerMetrics
    from huleedu_service_libs.resilience.pipeline import Fallback, Pipeline
    from huleedu_service_libs.resilience.retry import Retry

__all__ = [
    "BreakerPolicy",
    "Bulkhead",
    "CircuitBreaker",
    "CircuitBreakerContentServiceClient",
    "CircuitBreakerError",
    "CircuitBreakerHttpClient",
    "CircuitBreakerRegistry",
    "CircuitBreakerState",
    "CountWindow",
    "Fallback",
    "Pipeline",
    "Ramp",
    "Retry",
    "RetryBudget",
    "StandardCircuitBreakerMetrics",
    "TimeLimit",
    "TimeWindow",
    "circuit_breaker",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "Bulkhead": "huleedu_service_libs.resilience.limits",
        "CircuitBreakerContentServiceClient": "huleedu_service_libs.resilience.content_service",
        "CircuitBreakerHttpClient": "huleedu_service_libs.resilience.http_client",
        "Fallback": "huleedu_service_libs.resilience.pipeline",
        "Pipeline": "huleedu_service_libs.resilience.pipeline",
        "Retry": "huleedu_service_libs.resilience.retry",
        "RetryBudget": "huleedu_service_libs.resilience.budget",
        "StandardCircuitBreakerMetrics": "huleedu_service_libs.resilience.metrics",
        "TimeLimit": "huleedu_service_libs.resilience.limits",
    },
)
