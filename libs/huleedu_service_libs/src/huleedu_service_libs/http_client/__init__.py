"""HTTP between services: typed errors, retries, limits, correlation and trace. Needs the extra ``http``.

The names below are fetched when they are first used, so that this package loads no driver.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._http_ports import ContentServiceClientProtocol, HttpClientProtocol
from huleedu_service_libs._lazy import lazy_exports
from huleedu_service_libs.http_client._errors import ConnectionPoolExhaustedError, counts_as_outage
from huleedu_service_libs.http_client.config import ContentServiceConfig, HttpClientConfig

if TYPE_CHECKING:
    from huleedu_service_libs.http_client.base_client import BaseHttpClient, make_session
    from huleedu_service_libs.http_client.content_service_client import ContentServiceClient
    from huleedu_service_libs.http_client.di_providers import ContentServiceClientProvider, HttpClientProvider

__all__ = [
    "BaseHttpClient",
    "ConnectionPoolExhaustedError",
    "ContentServiceClient",
    "ContentServiceClientProtocol",
    "ContentServiceClientProvider",
    "ContentServiceConfig",
    "HttpClientConfig",
    "HttpClientProtocol",
    "HttpClientProvider",
    "counts_as_outage",
    "make_session",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BaseHttpClient": "huleedu_service_libs.http_client.base_client",
        "ContentServiceClient": "huleedu_service_libs.http_client.content_service_client",
        "ContentServiceClientProvider": "huleedu_service_libs.http_client.di_providers",
        "HttpClientProvider": "huleedu_service_libs.http_client.di_providers",
        "make_session": "huleedu_service_libs.http_client.base_client",
    },
)
