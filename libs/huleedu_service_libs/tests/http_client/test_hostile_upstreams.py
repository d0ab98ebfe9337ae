"""The HTTP client against servers that mean no good: redirects, bombs, bodies cut off, odd headers."""

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from common_core import ErrorCode
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.http_client import BaseHttpClient, HttpClientConfig, make_session
from huleedu_service_libs.resilience.errors import BulkheadFullError

CORRELATION = uuid4()
SECRETS = {"Authorization": "Bearer secret", "X-Api-Key": "secret", "Cookie": "session=secret"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def _server(answer: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        yield str(server.make_url("/thing"))


@asynccontextmanager
async def _client(session: ClientSession | None = None, **settings: Any) -> AsyncIterator[BaseHttpClient]:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    config = HttpClientConfig(**{"max_retries": 0, **settings})
    async with session or make_session(config) as opened:
        yield BaseHttpClient(opened, "svc", config, sleep=sleep)


async def _code(call: Awaitable[Any]) -> ErrorCode:
    with pytest.raises(HuleEduError) as caught:
        await call
    return ErrorCode(caught.value.error_detail.error_code)


async def test_a_redirect_takes_no_secret_to_another_server() -> None:
    """There nothing of the caller's headers arrives, nor on the way on; on the same server they do."""
    seen: list[dict[str, str]] = []

    async def stranger(request: web.Request) -> web.StreamResponse:
        seen.append(dict(request.headers))
        return web.Response(text="stranger")

    async with _server(stranger) as elsewhere:

        async def redirects(request: web.Request) -> web.StreamResponse:
            if request.path == "/thing":
                raise web.HTTPFound("/again")
            assert request.headers["X-Api-Key"] == "secret"
            raise web.HTTPTemporaryRedirect(elsewhere.replace("127.0.0.1", "localhost"))

        async with _server(redirects) as url, _client() as client:
            assert await client.get(url, CORRELATION, headers=SECRETS) == "stranger"
    assert "secret" not in str(seen)
    assert len(seen) == 1


async def test_what_a_session_adds_by_itself_goes_nowhere_else() -> None:
    """With headers of the session's own a redirect to another server is an answer that is no success."""

    async def never(_: web.Request) -> web.StreamResponse:
        raise AssertionError("it was asked")

    async with _server(never) as elsewhere:

        async def redirects(_: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(elsewhere)

        session = ClientSession(headers={"X-Api-Key": "secret"})
        async with _server(redirects) as url, _client(session) as client:
            assert await _code(client.get(url, CORRELATION)) is ErrorCode.EXTERNAL_SERVICE_ERROR


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/thing", "http://[bad"])
async def test_redirects_that_lead_nowhere(location: str) -> None:
    """Other schemes are not followed, a circle ends, and an address that is none is an error like any other."""

    async def redirects(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": location})

    async with _server(redirects) as url, _client() as client:
        code = await _code(client.get(url, CORRELATION))
    assert code in {ErrorCode.EXTERNAL_SERVICE_ERROR, ErrorCode.CONNECTION_ERROR, ErrorCode.UNKNOWN_ERROR}


async def test_a_post_follows_no_redirect() -> None:
    """Its body would be sent to somebody who was not named, or twice."""
    asked = 0

    async def redirects(_: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        raise web.HTTPTemporaryRedirect("/again")

    async with _server(redirects) as url, _client() as client:
        assert await _code(client.post(url, b"secret", CORRELATION)) is ErrorCode.EXTERNAL_SERVICE_ERROR
    assert asked == 1


async def test_a_decompression_bomb_is_stopped() -> None:
    """Two hundred megabytes of nothing, packed small, cost a fraction of that before the limit stops them."""
    bomb = gzip.compress(bytes(200 * 1024 * 1024), 6)

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with _server(answer) as url, _client(max_response_bytes=1024 * 1024) as client:
        tracemalloc.start(1)
        try:
            code = await _code(client.get(url, CORRELATION))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert code is ErrorCode.INVALID_RESPONSE
    assert peak < 120 * 1024 * 1024


@pytest.mark.parametrize("charset", ["idna", "punycode", "undefined", "rot13", "hex", "no-such", "utf-16"])
async def test_a_charset_cannot_break_the_answer(charset: str) -> None:
    """Codecs that are no charsets, or take for ever, are left alone."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"caf\xc3\xa9-" * 50_000, headers={"Content-Type": f"text/plain; charset={charset}"})

    async with _server(answer) as url, _client() as client, asyncio.timeout(5):
        assert len(await client.get(url, CORRELATION)) > 100_000


async def test_json_nested_too_deeply_is_no_answer() -> None:
    """It is an invalid response, not a RecursionError."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"[" * 500_000)

    async with _server(answer) as url, _client() as client:
        assert await _code(client.post(url, b"", CORRELATION)) is ErrorCode.INVALID_RESPONSE


@pytest.mark.parametrize("retry_after", ["²", "9" * 400, "86400", "-1", "nan", "Wed, 21 Oct 2015 07:28:00 GMT"])
@pytest.mark.parametrize("status", [429, 503])
async def test_no_retry_after_keeps_a_caller_waiting(retry_after: str, status: int) -> None:
    """Nonsense is ignored; a longer wait than ours may be ends the call at once instead of being slept."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Retry-After": retry_after})

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    config = HttpClientConfig(max_retries=2, retry_max_delay=30)
    async with _server(answer) as url, make_session(config) as session:
        code = await _code(BaseHttpClient(session, "svc", config, sleep=sleep).get(url, CORRELATION))
    assert code in {ErrorCode.RATE_LIMIT, ErrorCode.SERVICE_UNAVAILABLE}
    assert max(slept, default=0) <= 30
    assert not (retry_after.isascii() and retry_after.isdigit() and slept)


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"half")
    if request.transport is not None:
        request.transport.abort()
    return response


async def test_a_body_cut_in_the_middle_is_no_answer() -> None:
    """Neither `get` nor a stream takes half a body for a whole one."""
    async with _server(_cut) as url, _client() as client:
        assert await _code(client.get(url, CORRELATION)) is ErrorCode.CONNECTION_ERROR
        got: list[bytes] = []

        async def read() -> None:
            async with client.stream(url, CORRELATION) as pieces:
                got.extend([piece async for piece in pieces])

        assert await _code(read()) is ErrorCode.CONNECTION_ERROR
    assert got == []


@pytest.mark.parametrize(
    "error", [KeyError("mine"), BulkheadFullError("mine", 1, 1), TimeoutError("mine"), OSError("mine")]
)
async def test_what_the_block_of_a_stream_raises_is_its_own(error: Exception) -> None:
    """It passes unchanged: it is no failure of the server."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 100_000)

    async with _server(answer) as url, _client() as client:

        async def read() -> None:
            async with client.stream(url, CORRELATION) as pieces:
                await anext(pieces)
                raise error

        with pytest.raises(type(error)) as caught:
            await read()
        assert caught.value is error
        assert len(await client.get(url, CORRELATION)) == 100_000, "the connection is free again"


async def test_a_streams_rest_is_not_read_for_nothing() -> None:
    """Who leaves a stream early gives its place in the pool back at once."""

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        except (ConnectionError, asyncio.CancelledError):
            return response

    async with _server(endless) as url, _client(connection_pool_size=1) as client, asyncio.timeout(10):
        for _ in range(3):
            async with client.stream(url, CORRELATION) as pieces:
                await anext(pieces)


@pytest.mark.parametrize("name", ["service", "operation", "message", "resource_id", "status_code", "target", "limit"])
@pytest.mark.parametrize("status", [404, 429, 503, 418, 302])
async def test_no_context_of_a_caller_breaks_the_error(name: str, status: int) -> None:
    """Whatever a caller calls its context, the error is the one of the status."""

    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status)

    async with _server(answer) as url, _client() as client:
        with pytest.raises(HuleEduError) as caught:
            await client.get(url, CORRELATION, None, None, **{name: "mine"})
    detail = caught.value.error_detail
    assert (detail.service, detail.operation, detail.correlation_id) == ("svc", "http_get", CORRELATION)
    assert "mine" in detail.details.values()
