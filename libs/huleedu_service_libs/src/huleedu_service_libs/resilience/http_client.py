"""An HTTP client behind a circuit breaker; same protocol as the client that it wraps."""

from typing import Any
from uuid import UUID

from huleedu_service_libs._http_ports import HttpClientProtocol
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker

__all__ = ["CircuitBreakerHttpClient"]


class CircuitBreakerHttpClient:
    """Sends every request through the breaker.

    Give the breaker ``expected_exception=HuleEduError`` and
    ``BreakerPolicy(is_failure=http_client.counts_as_outage)``, so that a 404 does not open it.

    Args:
        delegate: The client.
        circuit_breaker: The breaker.
    """

    def __init__(self, delegate: HttpClientProtocol, circuit_breaker: CircuitBreaker) -> None:
        self._delegate = delegate
        self._circuit_breaker = circuit_breaker

    async def get(
        self,
        url: str,
        correlation_id: UUID,
        timeout_seconds: int = 10,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> str:
        """See `HttpClientProtocol`.

        Raises:
            CircuitBreakerError: The circuit is open.
        """
        return await self._circuit_breaker.call(
            self._delegate.get, url, correlation_id, timeout_seconds, headers, **context
        )

    async def post(
        self,
        url: str,
        data: bytes | str,
        correlation_id: UUID,
        timeout_seconds: int = 10,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> dict[str, Any]:
        """See `HttpClientProtocol`.

        Raises:
            CircuitBreakerError: The circuit is open.
        """
        return await self._circuit_breaker.call(
            self._delegate.post, url, data, correlation_id, timeout_seconds, headers, **context
        )
