"""Guards around calls to what may fail: breakers, retries, time limits, bulkheads, fallbacks.

The breaker and its registry are here at once: the function ``circuit_breaker`` has the name of its
module, so it must be bound after the module was loaded. The rest is fetched when first used.
"""

from huleedu_service_libs.resilience.circuit_breaker import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerState,
    circuit_breaker,
)
from huleedu_service_libs.resilience.registry import CircuitBreakerRegistry

__all__ = [
    "CircuitBreaker",
    "CircuitBreakerError",
    "CircuitBreakerRegistry",
    "CircuitBreakerState",
    "circuit_breaker",
]
