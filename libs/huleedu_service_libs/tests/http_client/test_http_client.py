"""The HTTP clients against a real server on the loopback: errors, retries, limits, headers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port
from dishka import Provider, Scope, make_async_container

from common_core import ContentType, ErrorCode
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.http_client import (
    BaseHttpClient,
    ConnectionPoolExhaustedError,
    ContentServiceClient,
    ContentServiceClientProtocol,
    ContentServiceClientProvider,
    ContentServiceConfig,
    HttpClientConfig,
    HttpClientProtocol,
    HttpClientProvider,
    counts_as_outage,
    make_session,
)
from huleedu_service_libs.http_client.di_providers import ContentServiceConfigProvider, ServiceNameProvider
from huleedu_service_libs.observability import use_trace_context
from huleedu_service_libs.resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerContentServiceClient,
    CircuitBreakerError,
    CircuitBreakerHttpClient,
)
from huleedu_service_libs.resilience.deadline import DEADLINE_HEADER, deadline

from ..resilience.times import Time

CORRELATION = UUID("12345678-1234-5678-1234-567812345678")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """A server that answers as the test says, and remembers what came."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.answer: Handler = self._fine
        self.answers: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        if self.answers and (status := self.answers.pop(0)) != 200:
            return web.Response(status=status, headers={"Retry-After": "7"} if status == 429 else {})
        return await self.answer(request)

    async def _fine(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({"storage_id": "s-1"})


@pytest.fixture(name="upstream")
async def _upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    async with TestServer(app) as server:
        upstream.url = str(server.make_url("/thing"))
        yield upstream


@pytest.fixture(name="slept")
def _slept() -> list[float]:
    return []


MakeClient = Callable[..., BaseHttpClient]


@pytest.fixture(name="make_client")
async def _make_client(slept: list[float]) -> AsyncIterator[MakeClient]:
    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    sessions = []

    def make(**config: Any) -> BaseHttpClient:
        settings = HttpClientConfig(**{"retry_jitter": 0, **config})
        sessions.append(make_session(settings))
        return BaseHttpClient(sessions[-1], "svc", settings, sleep=sleep)

    yield make
    for session in sessions:
        await session.close()


async def _error_of(call: Awaitable[Any]) -> HuleEduError:
    with pytest.raises(HuleEduError) as raised:
        await call
    assert raised.value.error_detail.correlation_id == CORRELATION
    assert raised.value.service == "svc"
    return raised.value


async def test_get_and_post(upstream: Upstream, make_client: MakeClient) -> None:
    """Text for a GET, an object for a POST; correlation, trace, deadline and own headers are sent."""
    client = make_client()
    with use_trace_context({"traceparent": TRACE}), deadline(5):
        assert await client.get(upstream.url, CORRELATION, 5, {"X-Own": "1"}) == '{"storage_id": "s-1"}'
        assert await client.post(upstream.url, "å", CORRELATION) == {"storage_id": "s-1"}
    headers = upstream.requests[0].headers
    assert headers["X-Correlation-ID"] == str(CORRELATION)
    assert headers["traceparent"] == TRACE
    assert headers["X-Own"] == "1"
    assert 0 < int(headers[DEADLINE_HEADER]) <= 5000
    assert upstream.bodies[1] == "å".encode()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, ErrorCode.RESOURCE_NOT_FOUND),
        (429, ErrorCode.RATE_LIMIT),
        (500, ErrorCode.SERVICE_UNAVAILABLE),
        (502, ErrorCode.SERVICE_UNAVAILABLE),
        (503, ErrorCode.SERVICE_UNAVAILABLE),
        (504, ErrorCode.SERVICE_UNAVAILABLE),
        (400, ErrorCode.INVALID_RESPONSE),
        (418, ErrorCode.INVALID_RESPONSE),
        (501, ErrorCode.EXTERNAL_SERVICE_ERROR),
        (304, ErrorCode.EXTERNAL_SERVICE_ERROR),
    ],
)
@pytest.mark.parametrize("method", ["get", "post"])
async def test_statuses(upstream: Upstream, make_client: MakeClient, status: int, code: ErrorCode, method: str) -> None:
    """Each status is the error it should be, with the caller's context and without the query."""
    upstream.answers = [status]
    client = make_client(max_retries=0)
    url = upstream.url + "?token=secret"
    call = (
        client.get(url, CORRELATION, essay_id="e")
        if method == "get"
        else client.post(url, b"", CORRELATION, essay_id="e")
    )
    error = await _error_of(call)
    assert error.error_detail.error_code is code
    assert error.operation == f"http_{method}"
    assert error.error_detail.details["essay_id"] == "e"
    assert error.error_detail.details["status_code"] == status
    assert "secret" not in str(error.error_detail.model_dump(exclude={"stack_trace"}))


async def test_get_is_repeated_with_growing_delays(
    upstream: Upstream, make_client: MakeClient, slept: list[float]
) -> None:
    """As often and as late as configured; then it succeeds."""
    upstream.answers = [503, 500, 502]
    client = make_client(max_retries=3, retry_base_delay=0.5, retry_exponential_base=4, retry_max_delay=3)
    assert await client.get(upstream.url, CORRELATION)
    assert slept == [0.5, 2.0, 3.0]


async def test_retries_end_with_the_last_error(upstream: Upstream, make_client: MakeClient, slept: list[float]) -> None:
    """Attempts used up; a server's Retry-After lengthens the wait."""
    upstream.answers = [429, 503]
    error = await _error_of(make_client(max_retries=1).get(upstream.url, CORRELATION))
    assert error.error_detail.error_code is ErrorCode.SERVICE_UNAVAILABLE
    assert (slept, len(upstream.requests)) == ([7.0], 2)


@pytest.mark.parametrize(
    ("status", "settings", "requests"), [(500, {}, 1), (503, {}, 2), (500, {"retry_posts": True}, 2)]
)
async def test_a_post_is_repeated_only_if_it_was_not_carried_out(
    upstream: Upstream, make_client: MakeClient, status: int, settings: dict[str, Any], requests: int
) -> None:
    """503 and 429 refuse; after a 500 nobody knows, and only a setting allows to repeat it."""
    upstream.answers = [status, status]
    await _error_of(make_client(max_retries=1, **settings).post(upstream.url, b"x", CORRELATION))
    assert len(upstream.requests) == requests


async def test_a_404_is_not_repeated(upstream: Upstream, make_client: MakeClient) -> None:
    """It will not be there the next time either."""
    upstream.answers = [404]
    await _error_of(make_client().get(upstream.url, CORRELATION))
    assert len(upstream.requests) == 1


async def test_timeout_and_no_connection(upstream: Upstream, make_client: MakeClient) -> None:
    """The ordinary total time-out is TIMEOUT, a refused connection CONNECTION_ERROR, and both count as outages."""
    forever = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    upstream.answer = hang
    client = make_client(max_retries=0)
    late = await _error_of(client.get(upstream.url, CORRELATION, 0.05))
    assert late.error_detail.error_code is ErrorCode.TIMEOUT
    assert late.error_detail.details["timeout_seconds"] == 0.05
    with deadline(0.05):
        assert (await _error_of(client.get(upstream.url, CORRELATION))).error_code == "TIMEOUT"
    with deadline(0):
        assert (await _error_of(client.get(upstream.url, CORRELATION))).error_code == "TIMEOUT"
    refused = await _error_of(client.get(f"http://127.0.0.1:{unused_port()}/", CORRELATION))
    assert refused.error_detail.error_code is ErrorCode.CONNECTION_ERROR
    assert counts_as_outage(late)
    assert counts_as_outage(refused)
    unknown = await _error_of(client.get("no address at all", CORRELATION))
    assert unknown.error_detail.error_code is ErrorCode.UNKNOWN_ERROR
    forever.set()


@pytest.mark.parametrize("text", ["no json", "[1]", ""])
async def test_a_post_needs_an_object(upstream: Upstream, make_client: MakeClient, text: str) -> None:
    """Anything else is INVALID_RESPONSE, mapped once."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=text)

    upstream.answer = answer
    error = await _error_of(make_client().post(upstream.url, b"", CORRELATION))
    assert error.error_detail.error_code is ErrorCode.INVALID_RESPONSE


async def test_an_answer_too_large_is_not_read(upstream: Upstream, make_client: MakeClient) -> None:
    """The limit holds for what comes in, whatever the headers say; the client goes on working."""

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(1000):
                await response.write(b"x" * 10_000)
        except ConnectionError:
            pass
        return response

    upstream.answer = large
    client = make_client(max_response_bytes=50_000)
    error = await _error_of(client.get(upstream.url, CORRELATION))
    assert error.error_detail.error_code is ErrorCode.INVALID_RESPONSE
    assert error.error_detail.details["max_response_bytes"] == 50_000
    async with client.stream(upstream.url, CORRELATION) as pieces:
        assert sum([len(piece) async for piece in pieces]) == 10_000_000


async def test_bodies_are_streamed_up(upstream: Upstream, make_client: MakeClient) -> None:
    """A body that comes in pieces is sent as it comes, and not repeated."""

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number}".encode()

    client = make_client()
    await client.post(upstream.url, pieces(), CORRELATION)
    assert upstream.bodies == [b"012"]
    upstream.answers = [503]
    await _error_of(client.post(upstream.url, pieces(), CORRELATION))
    assert len(upstream.requests) == 2
    upstream.answers = [404]
    with pytest.raises(HuleEduError, match="not found"):
        async with client.stream(upstream.url, CORRELATION):
            pass


async def test_connections_are_limited(upstream: Upstream, make_client: MakeClient) -> None:
    """No more requests at once than connections; who finds none in time is told so, and no breaker counts it."""
    go = asyncio.Event()
    most = now = 0

    async def wait(_: web.Request) -> web.StreamResponse:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await go.wait()
        now -= 1
        return web.json_response({})

    upstream.answer = wait
    client = make_client(connection_pool_size=2, connection_wait_seconds=0.05, max_retries=0)
    breaker = CircuitBreaker(failure_threshold=1, expected_exception=HuleEduError)
    guarded = CircuitBreakerHttpClient(client, breaker)
    tasks = [asyncio.create_task(guarded.get(upstream.url, CORRELATION)) for _ in range(5)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert all(isinstance(task.exception(), ConnectionPoolExhaustedError) for task in done)
    go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, str) for each in results) == 2
    assert most == 2
    assert breaker.failure_count == 0


async def test_the_guarded_client(upstream: Upstream, make_client: MakeClient) -> None:
    """Arguments in the protocol's order; a 404 does not open, outages do."""
    policy = BreakerPolicy(is_failure=counts_as_outage)
    breaker = CircuitBreaker(2, timedelta(seconds=60), expected_exception=HuleEduError, policy=policy)
    client = CircuitBreakerHttpClient(make_client(max_retries=0), breaker)
    upstream.answers = [404, 404, 404, 503, 503]
    for _ in range(5):
        await _error_of(client.get(upstream.url, CORRELATION))
    with pytest.raises(CircuitBreakerError):
        await client.post(upstream.url, b"", CORRELATION)
    delegate = AsyncMock()
    await CircuitBreakerHttpClient(delegate, CircuitBreaker()).post("u", b"d", CORRELATION, 3, {"h": "v"}, essay_id="e")
    delegate.post.assert_called_once_with("u", b"d", CORRELATION, 3, {"h": "v"}, essay_id="e")


async def test_a_flapping_upstream(upstream: Upstream, make_client: MakeClient) -> None:
    """It opens on outages, leaves the upstream alone meanwhile, tries few at once, and closes when it is well again."""
    time = Time()
    policy = BreakerPolicy(is_failure=counts_as_outage, half_open_permits=2, open_growth=2)
    breaker = CircuitBreaker(
        3, timedelta(seconds=10), 2, HuleEduError, policy=policy, clock=time, now=time.now, name="upstream"
    )
    client = CircuitBreakerHttpClient(make_client(max_retries=0), breaker)

    async def load(requests: int) -> list[str]:
        results = await asyncio.gather(
            *(client.get(upstream.url, CORRELATION) for _ in range(requests)), return_exceptions=True
        )
        return [type(each).__name__ for each in results]

    for open_seconds in (10, 20):  # down twice, up in between for nobody
        upstream.answers = [503] * 3
        await load(3)
        assert breaker.retry_after() == open_seconds
        reached = len(upstream.requests)
        assert set(await load(50)) == {"CircuitBreakerError"}
        assert len(upstream.requests) == reached
        time.passes(open_seconds)
    upstream.answers = []
    assert sorted(await load(50)) == ["CircuitBreakerError"] * 48 + ["str"] * 2
    assert await load(50) == ["str"] * 50
    assert breaker.get_state()["state"] == "closed"


async def test_content_service(upstream: Upstream, make_client: MakeClient) -> None:
    """Raw UTF-8 text goes up and an id comes back; without one it is INVALID_RESPONSE; a missing text is named."""
    config = ContentServiceConfig(
        base_url=upstream.url + "/", fetch_endpoint_path="/content/", store_endpoint_path="v1"
    )
    assert config.get_fetch_url("s-1") == upstream.url + "/content/s-1"
    assert config.get_store_url() == upstream.url + "/v1"
    plain = ContentServiceConfig(base_url="http://h")
    assert (plain.get_fetch_url("x"), plain.get_store_url()) == ("http://h/x", "http://h")
    client = CircuitBreakerContentServiceClient(ContentServiceClient(make_client(), config), CircuitBreaker())
    assert await client.store_content("smörgås", ContentType.ORIGINAL_ESSAY, CORRELATION, "e") == "s-1"
    assert upstream.bodies == ["smörgås".encode()]
    assert await client.fetch_content("s-1", CORRELATION)
    upstream.answers = [404]
    error = await _error_of(client.fetch_content("s-2", CORRELATION, "e"))
    assert error.error_detail.message == "content with ID 's-2' not found"

    async def no_id(_: web.Request) -> web.StreamResponse:
        return web.json_response({"storage_id": 5})

    upstream.answer = no_id
    error = await _error_of(client.store_content("x", ContentType.ORIGINAL_ESSAY, CORRELATION))
    assert error.error_detail.error_code is ErrorCode.INVALID_RESPONSE


async def test_providers(upstream: Upstream) -> None:
    """A service's own name and address take the place of those that must be overridden."""
    own = Provider(scope=Scope.APP)
    own.provide(lambda: "svc", provides=str)
    own.provide(lambda: ContentServiceConfig(base_url=upstream.url), provides=ContentServiceConfig)
    container = make_async_container(
        ServiceNameProvider(),
        ContentServiceConfigProvider(),
        HttpClientProvider(breaker=CircuitBreaker()),
        ContentServiceClientProvider(),
        own,
    )
    assert isinstance(await container.get(HttpClientProtocol), CircuitBreakerHttpClient)
    assert await (await container.get(ContentServiceClientProtocol)).fetch_content("s-1", uuid4())
    await container.close()
    bare = make_async_container(ServiceNameProvider(), ContentServiceConfigProvider())
    for kind in (str, ContentServiceConfig):
        with pytest.raises(NotImplementedError):
            await bare.get(kind)
    await bare.close()
