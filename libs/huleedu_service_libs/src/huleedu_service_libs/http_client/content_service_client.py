"""The client of the content service: stores texts under ids, and fetches them."""

from uuid import UUID

from common_core.domain_enums import ContentType
from common_core.error_enums import ErrorCode
from huleedu_service_libs._http_ports import HttpClientProtocol
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.http_client.config import ContentServiceConfig

__all__ = ["ContentServiceClient"]


class ContentServiceClient:
    """Speaks to the content service.

    Args:
        http_client: Sends the requests.
        config: Where to.
    """

    def __init__(self, http_client: HttpClientProtocol, config: ContentServiceConfig) -> None:
        self._http_client = http_client
        self._config = config

    async def fetch_content(self, storage_id: str, correlation_id: UUID, essay_id: str | None = None) -> str:
        """The text of an id.

        Raises:
            HuleEduError: As of `BaseHttpClient.get`; RESOURCE_NOT_FOUND names the storage id.
        """
        return await self._http_client.get(
            self._config.get_fetch_url(storage_id),
            correlation_id,
            self._config.http_config.default_timeout_seconds,
            None,
            storage_id=storage_id,
            resource_type="content",
            resource_id=storage_id,
            **({"essay_id": essay_id} if essay_id else {}),
        )

    async def store_content(
        self, content: str, content_type: ContentType, correlation_id: UUID, essay_id: str | None = None
    ) -> str:
        """Store a text; its id.

        Raises:
            HuleEduError: As of `BaseHttpClient.post`; INVALID_RESPONSE when the answer holds no id.
        """
        answer = await self._http_client.post(
            self._config.get_store_url(),
            content.encode("utf-8"),
            correlation_id,
            self._config.http_config.default_timeout_seconds,
            {"Content-Type": "text/plain; charset=utf-8"},
            content_type=content_type.value,
            **({"essay_id": essay_id} if essay_id else {}),
        )
        storage_id = answer.get("storage_id")
        if isinstance(storage_id, str) and storage_id:
            return storage_id
        raise HuleEduError(
            create_error_detail_with_context(
                error_code=ErrorCode.INVALID_RESPONSE,
                message="The content service answered without a storage_id",
                service=getattr(self._http_client, "service_name", "content_service_client"),
                operation="store_content",
                correlation_id=correlation_id,
                details={"keys": sorted(map(str, answer)), "content_type": content_type.value},
            )
        )
