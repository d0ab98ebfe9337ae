"""Settings of the HTTP clients; plain data that checks itself."""

from pydantic import BaseModel, Field

__all__ = ["ContentServiceConfig", "HttpClientConfig"]

_MEBIBYTE = 1024 * 1024


class HttpClientConfig(BaseModel):
    """How patient, how persistent, how large.

    Attributes:
        default_timeout_seconds: For an attempt whose caller names no time.
        max_retries: Further attempts after the first.
        retry_base_delay: Seconds before the first of them.
        retry_max_delay: Seconds between two attempts at most.
        retry_exponential_base: What the delay is multiplied with each time.
        retry_jitter: Share of a delay that is left to chance.
        retry_posts: Whether POSTs that may have been carried out are sent again. Those that surely
            were not (no connection, 429, 503) always are.
        connection_pool_size: Connections, and requests, at once.
        connection_wait_seconds: How long a request waits for one of them.
        enable_keepalive: Whether connections are used again.
        max_response_bytes: Largest answer that is read.
    """

    default_timeout_seconds: int = Field(default=10, ge=1, le=300)
    max_retries: int = Field(default=3, ge=0, le=10)
    retry_base_delay: float = Field(default=1.0, ge=0)
    retry_max_delay: float = Field(default=30.0, ge=0)
    retry_exponential_base: float = Field(default=2.0, ge=1)
    retry_jitter: float = Field(default=0.5, ge=0, le=1)
    retry_posts: bool = False
    connection_pool_size: int = Field(default=20, ge=1)
    connection_wait_seconds: float = Field(default=5.0, gt=0)
    enable_keepalive: bool = True
    max_response_bytes: int = Field(default=16 * _MEBIBYTE, ge=1)


class ContentServiceConfig(BaseModel):
    """Where the content service is.

    Attributes:
        base_url: With or without a slash at the end.
        fetch_endpoint_path: Between the base and an id.
        store_endpoint_path: Behind the base.
        http_config: Of the client underneath.
    """

    base_url: str
    fetch_endpoint_path: str = ""
    store_endpoint_path: str = ""
    http_config: HttpClientConfig = Field(default_factory=HttpClientConfig)

    def get_fetch_url(self, storage_id: str) -> str:
        """Where a content is fetched."""
        return "/".join([*self._parts(self.fetch_endpoint_path), storage_id])

    def get_store_url(self) -> str:
        """Where contents are stored."""
        return "/".join(self._parts(self.store_endpoint_path))

    def _parts(self, path: str) -> list[str]:
        return [part for part in (self.base_url.rstrip("/"), path.strip("/")) if part]
