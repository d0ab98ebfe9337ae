"""Dishka providers of the HTTP clients.

A service overrides `ServiceNameProvider` and `ContentServiceConfigProvider` with values of its own;
put its providers behind these.
"""

from collections.abc import AsyncIterator

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._http_ports import ContentServiceClientProtocol, HttpClientProtocol
from huleedu_service_libs.http_client.base_client import BaseHttpClient, make_session
from huleedu_service_libs.http_client.config import ContentServiceConfig, HttpClientConfig
from huleedu_service_libs.http_client.content_service_client import ContentServiceClient
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.http_client import CircuitBreakerHttpClient

with requires_extra("http", module=__name__):
    from aiohttp import ClientSession

with requires_extra("di", module=__name__):
    from dishka import Provider, Scope, provide

__all__ = [
    "ContentServiceClientProvider",
    "ContentServiceConfigProvider",
    "HttpClientProvider",
    "ServiceNameProvider",
]


class HttpClientProvider(Provider):
    """One session and one client for the application. Needs ``str``, the service's name.

    Args:
        config: Of both.
        breaker: Every request goes through it, when there is one.
    """

    def __init__(self, config: HttpClientConfig | None = None, breaker: CircuitBreaker | None = None) -> None:
        super().__init__(scope=Scope.APP)
        self._config = config or HttpClientConfig()
        self._breaker = breaker

    @provide
    async def provide_session(self) -> AsyncIterator[ClientSession]:
        """The session, closed at the end."""
        async with make_session(self._config) as session:
            yield session

    @provide
    def provide_http_client(self, session: ClientSession, service_name: str) -> HttpClientProtocol:
        """The client, guarded if there is a breaker."""
        client = BaseHttpClient(session, service_name, self._config)
        return client if self._breaker is None else CircuitBreakerHttpClient(client, self._breaker)


class ContentServiceClientProvider(Provider):
    """The client of the content service. Needs `HttpClientProtocol` and `ContentServiceConfig`."""

    def __init__(self) -> None:
        super().__init__(scope=Scope.APP)

    @provide
    def provide_content_service_client(
        self, http_client: HttpClientProtocol, config: ContentServiceConfig
    ) -> ContentServiceClientProtocol:
        """The client."""
        return ContentServiceClient(http_client, config)


class ContentServiceConfigProvider(Provider):
    """Stands for the service's own; override ``provide_config``."""

    def __init__(self) -> None:
        super().__init__(scope=Scope.APP)

    @provide
    def provide_config(self) -> ContentServiceConfig:
        """To be overridden.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("Provide a ContentServiceConfig: only the service knows where the content service is")


class ServiceNameProvider(Provider):
    """Stands for the service's own; override ``provide_service_name``."""

    def __init__(self) -> None:
        super().__init__(scope=Scope.APP)

    @provide
    def provide_service_name(self) -> str:
        """To be overridden.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("Provide the service's name as a str")
