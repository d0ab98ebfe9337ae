"""An HTTP client whose every failure is a `HuleEduError`, over aiohttp.

Services get one through ``di_providers``, with a breaker around it if they want one
(``resilience.http_client``). Each request carries correlation id, trace and deadline.
"""

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID

from huleedu_service_libs import _clock
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import mask_url_credentials
from huleedu_service_libs.http_client._errors import AttemptFailedError, failure_of_status, make_error, pool_exhausted
from huleedu_service_libs.http_client._transport import Answer, Transport, decode_object
from huleedu_service_libs.http_client.config import HttpClientConfig
from huleedu_service_libs.resilience.budget import RetryBudget
from huleedu_service_libs.resilience.errors import BulkheadFullError
from huleedu_service_libs.resilience.limits import Bulkhead
from huleedu_service_libs.resilience.retry import Retry

with requires_extra("http", module=__name__):
    import aiohttp

__all__ = ["BaseHttpClient", "make_session"]

Body = bytes | str | AsyncIterable[bytes]
T = TypeVar("T")


def make_session(config: HttpClientConfig) -> aiohttp.ClientSession:
    """A session with the connection limits of ``config``; needs a running event loop, and is closed by its owner."""
    connector = aiohttp.TCPConnector(limit=config.connection_pool_size, force_close=not config.enable_keepalive)
    return aiohttp.ClientSession(connector=connector)


class BaseHttpClient:
    """Sends requests, again if that makes sense.

    GETs are repeated after a lost connection, a time-out and the statuses 429, 500, 502, 503 and 504;
    POSTs only when they surely were not carried out, unless ``retry_posts`` allows more. Streams are
    never repeated. GETs follow redirects, to another server without the caller's headers; POSTs follow none. Errors carry ``url`` without its query, and whatever ``context`` a call names.

    Args:
        session: From `make_session`, or any other.
        service_name: Whose client this is; in errors.
        config: Times, retries, sizes.
        budget: Limits retries over all calls.
        sleep: Waits between attempts.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        service_name: str,
        config: HttpClientConfig | None = None,
        *,
        budget: RetryBudget | None = None,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self.service_name = service_name
        self.config = config or HttpClientConfig()
        self._transport = Transport(session, self.config.max_response_bytes)
        self._pool = Bulkhead(
            self.config.connection_pool_size,
            queue_size=100 * self.config.connection_pool_size,
            wait_s=self.config.connection_wait_seconds,
            name=f"{service_name} HTTP connections",
        )
        self._repeat_all = self._make_retry(self._may_repeat, budget, sleep)
        self._repeat_safe = self._make_retry(
            lambda error: not error.carried_out and self._may_repeat(error), budget, sleep
        )

    async def get(
        self,
        url: str,
        correlation_id: UUID,
        timeout_seconds: float | None = None,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> str:
        """The text that ``url`` answers with.

        Args:
            url: Where.
            correlation_id: Sent along, and in errors.
            timeout_seconds: For each attempt; by default ``config.default_timeout_seconds``.
            headers: Beside ours, and over them.
            **context: Goes into the details of errors.

        Raises:
            HuleEduError: RESOURCE_NOT_FOUND (404), RATE_LIMIT (429), SERVICE_UNAVAILABLE (500, 502, 503, 504, or
                no connection free), INVALID_RESPONSE (other 4xx, too large), EXTERNAL_SERVICE_ERROR (any other
                status), TIMEOUT, CONNECTION_ERROR, UNKNOWN_ERROR.
        """

        async def attempt() -> str:
            answer = await self._request("GET", url, correlation_id, timeout_seconds, headers)
            return answer.text

        return await self._run(self._repeat_all, attempt, "http_get", url, correlation_id, context)

    async def post(
        self,
        url: str,
        data: Body,
        correlation_id: UUID,
        timeout_seconds: float | None = None,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> dict[str, Any]:
        """The JSON object that ``url`` answers ``data`` with; empty for 204.

        Args:
            url: Where.
            data: Bytes, text (UTF-8), or a stream, which is sent once and never again.
            correlation_id: As of `get`, like the rest.
            timeout_seconds: As of `get`.
            headers: As of `get`.
            **context: As of `get`.

        Raises:
            HuleEduError: As of `get`; also INVALID_RESPONSE when the answer is no JSON object.
        """

        async def attempt() -> dict[str, Any]:
            answer = await self._request("POST", url, correlation_id, timeout_seconds, headers, data)
            return decode_object(answer)

        if isinstance(data, bytes | str):
            retry = self._repeat_all if self.config.retry_posts else self._repeat_safe
        else:
            retry = None
        return await self._run(retry, attempt, "http_post", url, correlation_id, context)

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        correlation_id: UUID,
        timeout_seconds: float | None = None,
        headers: dict[str, str] | None = None,
        **context: Any,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of ``url`` in pieces, as they come; for what need not fit into memory. Not repeated.

        Raises:
            HuleEduError: As of `get`, also while reading; there is no limit on the size.
        """
        seconds = timeout_seconds or self.config.default_timeout_seconds
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._pool)
                opened = self._transport.open("GET", url, correlation_id, seconds, headers, None)
                response = await stack.enter_async_context(opened)
                _check(response.status, url, self.service_name, response.headers.get("Retry-After"))
            except (AttemptFailedError, BulkheadFullError) as error:
                raise self._error(error, "http_stream", url, correlation_id, context) from error.__cause__
            try:
                yield self._transport.pieces(response, None, seconds)
            except AttemptFailedError as error:  # from reading; what the block itself raises is not ours to name
                raise self._error(error, "http_stream", url, correlation_id, context) from error.__cause__

    async def _request(
        self,
        method: str,
        url: str,
        correlation_id: UUID,
        timeout_seconds: float | None,
        headers: dict[str, str] | None,
        data: Body | None = None,
    ) -> Answer:
        seconds = timeout_seconds or self.config.default_timeout_seconds
        async with self._pool:
            answer = await self._transport.send(method, url, correlation_id, seconds, headers, data)
        _check(answer.status, url, self.service_name, answer.retry_after)
        return answer

    async def _run(
        self,
        retry: Retry | None,
        attempt: Callable[[], Awaitable[T]],
        operation: str,
        url: str,
        correlation_id: UUID,
        context: dict[str, Any],
    ) -> T:
        try:
            return await (attempt() if retry is None else retry.call(attempt))
        except (AttemptFailedError, BulkheadFullError) as error:
            raise self._error(error, operation, url, correlation_id, context) from error.__cause__

    def _error(
        self, error: Exception, operation: str, url: str, correlation_id: UUID, context: dict[str, Any]
    ) -> Exception:
        where: dict[str, Any] = {
            "service": self.service_name,
            "operation": operation,
            "correlation_id": correlation_id,
            "context": {"url": _without_query(url), **context},
        }
        return make_error(error, **where) if isinstance(error, AttemptFailedError) else pool_exhausted(**where)

    def _may_repeat(self, error: AttemptFailedError) -> bool:
        """Not when the other side asks for a longer wait than ours may be: the caller learns that at once."""
        return error.again and (error.retry_after or 0.0) <= self.config.retry_max_delay

    def _make_retry(self, judge: Callable[[Any], bool], budget: RetryBudget | None, sleep: _clock.Sleep) -> Retry:
        config = self.config
        return Retry(
            config.max_retries + 1,
            first_delay_s=config.retry_base_delay,
            factor=config.retry_exponential_base,
            longest_delay_s=config.retry_max_delay,
            jitter=config.retry_jitter,
            on=AttemptFailedError,
            retry_if=judge,
            budget=budget,
            name=f"{self.service_name}.http",
            sleep=sleep,
        )


def _check(status: int, url: str, service: str, retry_after: str | None) -> None:
    if not 200 <= status < 300:  # noqa: PLR2004  # statuses are known by their numbers
        raise failure_of_status(status, _without_query(url), service, retry_after)


def _without_query(url: str) -> str:
    """What of an address may stand in logs: no query, no credentials."""
    return mask_url_credentials(url.split("?", maxsplit=1)[0])
