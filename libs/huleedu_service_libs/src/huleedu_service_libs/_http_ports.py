"""The ports of HTTP clients; ``http_client`` implements them, the wrappers of ``resilience`` wear them.

They stand below both, so that neither has to know the other. Import them from ``http_client``.
"""

from typing import Any, Protocol
from uuid import UUID

from common_core.domain_enums import ContentType

__all__ = ["ContentServiceClientProtocol", "HttpClientProtocol"]


class HttpClientProtocol(Protocol):
    """Sends requests; whatever goes wrong is a `HuleEduError`."""

    async def get(
        self,
        url: str,
        correlation_id: UUID,
        timeout_seconds: int = 10,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> str:
        """The text that a GET answers with; ``context`` goes into the details of errors."""
        ...

    async def post(
        self,
        url: str,
        data: bytes | str,
        correlation_id: UUID,
        timeout_seconds: int = 10,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> dict[str, Any]:
        """The JSON object that a POST answers with."""
        ...


class ContentServiceClientProtocol(Protocol):
    """Stores texts and fetches them again."""

    async def fetch_content(self, storage_id: str, correlation_id: UUID, essay_id: str | None = None) -> str:
        """The text of that id."""
        ...

    async def store_content(
        self, content: str, content_type: ContentType, correlation_id: UUID, essay_id: str | None = None
    ) -> str:
        """Store a text; its id."""
        ...
