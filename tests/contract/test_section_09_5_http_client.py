"""Section 9.5: the HTTP client and the content service's, against a server on the loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock, MagicMock
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from dishka import Provider, Scope, make_async_container, provide
from pydantic import ValidationError

from common_core.domain_enums import ContentType
from common_core.error_enums import ErrorCode
from huleedu_service_libs import http_client
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.http_client import (
    BaseHttpClient,
    ContentServiceClient,
    ContentServiceClientProtocol,
    ContentServiceClientProvider,
    ContentServiceConfig,
    HttpClientConfig,
    HttpClientProtocol,
    HttpClientProvider,
)
from huleedu_service_libs.http_client.di_providers import ContentServiceConfigProvider, ServiceNameProvider
from huleedu_service_libs.resilience import CircuitBreakerContentServiceClient, CircuitBreakerHttpClient

ID = UUID(int=7)
ONCE = HttpClientConfig(max_retries=0)
EXPORTS = (
    "HttpClientProtocol",
    "ContentServiceClientProtocol",
    "HttpClientConfig",
    "ContentServiceConfig",
    "BaseHttpClient",
    "ContentServiceClient",
    "HttpClientProvider",
    "ContentServiceClientProvider",
)


class Upstream:
    """Answers as the path says: ``/status/404``, ``/slow``, ``/json``; anything else is stored text."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.answer: Any = {"storage_id": "s-1"}
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        self.bodies.append(await request.read())
        if request.path.startswith("/status/"):
            return web.Response(status=int(request.path.rpartition("/")[2]))
        if request.path == "/slow":
            await asyncio.sleep(30)
        return (
            web.Response(text=f"text of {request.path}") if request.method == "GET" else web.json_response(self.answer)
        )


@pytest.fixture(name="upstream")
async def _upstream() -> AsyncIterator[Upstream]:
    upstream, app = Upstream(), web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with TestServer(app) as server:
        upstream.url = str(server.make_url("/")).rstrip("/")
        yield upstream


@pytest.fixture(name="client")
async def _client() -> AsyncIterator[BaseHttpClient]:
    async with aiohttp.ClientSession() as session:
        yield BaseHttpClient(session, "svc", ONCE)


async def error_of(call: Any) -> HuleEduError:
    """What a call raises, with the caller's id and service."""
    with pytest.raises(HuleEduError) as caught:
        await call
    assert (caught.value.correlation_id, caught.value.service) == (str(ID), "svc")
    return caught.value


@pytest.mark.contract("9.5-exports")
def test_what_the_package_exports() -> None:
    """All eight names of the contract are there."""
    assert [name for name in EXPORTS if not hasattr(http_client, name)] == []


@pytest.mark.contract("9.5-config-defaults", "9.5-config-limits")
def test_configuration() -> None:
    """Defaults, and what is refused."""
    config = HttpClientConfig()
    assert (config.default_timeout_seconds, config.max_retries, config.retry_base_delay) == (10, 3, 1.0)
    assert (config.retry_max_delay, config.retry_exponential_base) == (30.0, 2.0)
    assert (config.connection_pool_size, config.enable_keepalive) == (20, True)
    for seconds in (1, 300):
        assert HttpClientConfig(default_timeout_seconds=seconds, max_retries=10).max_retries == 10
    refused: list[dict[str, Any]] = [
        {"default_timeout_seconds": 0},
        {"default_timeout_seconds": 301},
        {"max_retries": -1},
        {"max_retries": 11},
    ]
    for wrong in refused:
        with pytest.raises(ValidationError):
            HttpClientConfig(**wrong)


@pytest.mark.contract("9.5-content-urls")
@pytest.mark.parametrize(
    ("base", "fetch", "store", "urls"),
    [
        ("http://c", "", "", ("http://c/s", "http://c")),
        ("http://c/", "/v1/content/", "v1/content", ("http://c/v1/content/s", "http://c/v1/content")),
    ],
)
def test_addresses(base: str, fetch: str, store: str, urls: tuple[str, str]) -> None:
    """With and without paths, slashes trimmed."""
    config = ContentServiceConfig(base_url=base, fetch_endpoint_path=fetch, store_endpoint_path=store)
    assert (config.get_fetch_url("s"), config.get_store_url()) == urls
    assert isinstance(config.http_config, HttpClientConfig)
    with pytest.raises(ValidationError):
        ContentServiceConfig()  # type: ignore[call-arg]  # the address is required


@pytest.mark.contract("9.5-get-and-post")
async def test_get_and_post(upstream: Upstream, client: BaseHttpClient) -> None:
    """Text, and an object."""
    assert await client.get(f"{upstream.url}/a", ID, 5, {"X-Own": "1"}, essay_id="e") == "text of /a"
    assert await client.post(f"{upstream.url}/a", b"x", ID) == {"storage_id": "s-1"}


@pytest.mark.contract("9.5-status-errors")
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, ErrorCode.RESOURCE_NOT_FOUND),
        (429, ErrorCode.RATE_LIMIT),
        *[(status, ErrorCode.SERVICE_UNAVAILABLE) for status in (500, 502, 503, 504)],
        *[(status, ErrorCode.INVALID_RESPONSE) for status in (400, 401, 418)],
        *[(status, ErrorCode.EXTERNAL_SERVICE_ERROR) for status in (501, 599)],
    ],
)
async def test_statuses(upstream: Upstream, client: BaseHttpClient, status: int, code: ErrorCode) -> None:
    """The code that belongs to it, for GET and POST."""
    url = f"{upstream.url}/status/{status}"
    assert (await error_of(client.get(url, ID))).error_code == code
    assert (await error_of(client.post(url, "x", ID))).error_code == code


@pytest.mark.contract("9.5-transport-errors")
async def test_transport(upstream: Upstream, client: BaseHttpClient) -> None:
    """No answer in time, nobody there, and what nobody knows."""
    assert (await error_of(client.get(f"{upstream.url}/slow", ID, 1))).error_code == ErrorCode.TIMEOUT
    nowhere = f"http://127.0.0.1:{unused_port()}/"
    assert (await error_of(client.get(nowhere, ID))).error_code == ErrorCode.CONNECTION_ERROR
    strange = MagicMock(spec=aiohttp.ClientSession)
    for name in ("request", "get", "post"):
        getattr(strange, name).side_effect = RuntimeError("nobody knows")
    error = await error_of(BaseHttpClient(strange, "svc", ONCE).get("http://127.0.0.1:1/", ID))
    assert error.error_code == ErrorCode.UNKNOWN_ERROR


@pytest.mark.contract("9.5-store", "9.5-fetch")
async def test_contents(upstream: Upstream, client: BaseHttpClient) -> None:
    """Stored as raw UTF-8, fetched by its address."""
    config = ContentServiceConfig(base_url=upstream.url, fetch_endpoint_path="v1", http_config=ONCE)
    contents = ContentServiceClient(client, config)
    assert await contents.store_content("räksmörgås", ContentType.ORIGINAL_ESSAY, ID, "e-1") == "s-1"
    assert upstream.bodies == ["räksmörgås".encode()]
    assert await contents.fetch_content("s-1", ID) == "text of /v1/s-1"


@pytest.mark.contract("9.5-store-invalid")
@pytest.mark.parametrize("answer", [{}, {"storage_id": None}, {"storage_id": 7}, ["s-1"]], ids=str)
async def test_answers_without_an_id(upstream: Upstream, client: BaseHttpClient, answer: Any) -> None:
    """A stored text whose id does not come back is an INVALID_RESPONSE."""
    upstream.answer = answer
    contents = ContentServiceClient(client, ContentServiceConfig(base_url=upstream.url))
    error = await error_of(contents.store_content("x", ContentType.ORIGINAL_ESSAY, ID))
    assert error.error_code == ErrorCode.INVALID_RESPONSE


@pytest.mark.contract("9.5-wrappers-positional")
async def test_wrappers() -> None:
    """Each call goes through the breaker: the delegate's method, then the arguments in the protocol's order."""
    breaker = AsyncMock()
    http, contents = AsyncMock(spec=HttpClientProtocol), AsyncMock(spec=ContentServiceClientProtocol)
    await CircuitBreakerHttpClient(http, breaker).get("u", ID, 5, {"a": "b"}, essay_id="e")
    await CircuitBreakerHttpClient(delegate=http, circuit_breaker=breaker).post("u", b"x", ID)
    await CircuitBreakerContentServiceClient(contents, breaker).fetch_content("s", ID, "e")
    await CircuitBreakerContentServiceClient(contents, breaker).store_content("t", ContentType.CORRECTED_TEXT, ID)
    calls = [(one.args, one.kwargs) for one in breaker.call.await_args_list]
    assert calls == [
        ((http.get, "u", ID, 5, {"a": "b"}), {"essay_id": "e"}),
        ((http.post, "u", b"x", ID, 10, None), {}),
        ((contents.fetch_content, "s", ID, "e"), {}),
        ((contents.store_content, "t", ContentType.CORRECTED_TEXT, ID, None), {}),
    ]


@pytest.mark.contract("9.5-providers")
async def test_providers() -> None:
    """Without the service's own parts they refuse; with them both protocols are there."""
    with pytest.raises(NotImplementedError):
        ContentServiceConfigProvider().provide_config()
    with pytest.raises(NotImplementedError):
        ServiceNameProvider().provide_service_name()

    class Own(Provider):
        @provide(scope=Scope.APP)
        def name(self) -> str:
            return "svc"

        @provide(scope=Scope.APP)
        def config(self) -> ContentServiceConfig:
            return ContentServiceConfig(base_url="http://c")

    container = make_async_container(Own(), HttpClientProvider(), ContentServiceClientProvider())
    assert isinstance(await container.get(HttpClientProtocol), BaseHttpClient)
    assert isinstance(await container.get(ContentServiceClientProtocol), ContentServiceClient)
    await container.close()
