"""A content service client behind a circuit breaker; same protocol as the client that it wraps."""

from uuid import UUID

from common_core.domain_enums import ContentType
from huleedu_service_libs._http_ports import ContentServiceClientProtocol
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker

__all__ = ["CircuitBreakerContentServiceClient"]


class CircuitBreakerContentServiceClient:
    """Makes every call through the breaker.

    Args:
        delegate: The client.
        circuit_breaker: The breaker.
    """

    def __init__(self, delegate: ContentServiceClientProtocol, circuit_breaker: CircuitBreaker) -> None:
        self._delegate = delegate
        self._circuit_breaker = circuit_breaker

    async def fetch_content(self, storage_id: str, correlation_id: UUID, essay_id: str | None = None) -> str:
        """See `ContentServiceClientProtocol`.

        Raises:
            CircuitBreakerError: The circuit is open.
        """
        return await self._circuit_breaker.call(self._delegate.fetch_content, storage_id, correlation_id, essay_id)

    async def store_content(
        self, content: str, content_type: ContentType, correlation_id: UUID, essay_id: str | None = None
    ) -> str:
        """See `ContentServiceClientProtocol`.

        Raises:
            CircuitBreakerError: The circuit is open.
        """
        return await self._circuit_breaker.call(
            self._delegate.store_content, content, content_type, correlation_id, essay_id
        )
