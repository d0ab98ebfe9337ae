"""One request over aiohttp: headers, limits, and the names of what can go wrong."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from common_core.error_enums import ErrorCode
from huleedu_service_libs._clock import monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER
from huleedu_service_libs.http_client._errors import AttemptFailedError
from huleedu_service_libs.observability import inject_trace_context
from huleedu_service_libs.resilience.deadline import deadline_headers, remaining

with requires_extra("http", module=__name__):
    import aiohttp
    from yarl import URL

__all__ = ["Answer", "Transport", "decode_object"]

MOST_REDIRECTS = 5

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TRICKY_CHARSETS = frozenset(
    {"idna", "punycode", "undefined"}
)  # no charsets of answers; one takes hours for a megabyte


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end.

    Attributes:
        status: The HTTP status.
        body: The bytes.
        charset: How they were encoded.
        retry_after: The header of that name.
    """

    status: int
    body: bytes
    charset: str
    retry_after: str | None

    @property
    def text(self) -> str:
        """The body as text; what does not fit the charset is replaced."""
        charset = self.charset.lower()
        if charset in _TRICKY_CHARSETS:
            charset = "utf-8"
        try:
            return self.body.decode(charset, errors="replace")
        except (LookupError, ValueError):
            return self.body.decode("utf-8", errors="replace")


class Transport:
    """Sends single requests.

    Args:
        session: Whose connections are used.
        max_response_bytes: Largest body that is read.
    """

    def __init__(self, session: aiohttp.ClientSession, max_response_bytes: int) -> None:
        self._session = session
        self._max_bytes = max_response_bytes

    async def send(
        self, method: str, url: str, correlation_id: UUID, seconds: float, headers: dict[str, str] | None, data: Any
    ) -> Answer:
        """Send a request and read the answer.

        Raises:
            AttemptFailedError: There is none, or it is too large.
        """
        async with self.open(method, url, correlation_id, seconds, headers, data) as response:
            pieces = [piece async for piece in self.pieces(response, self._max_bytes, seconds)]
            return Answer(
                response.status,
                b"".join(pieces),
                response.charset or "utf-8",
                response.headers.get("Retry-After"),
            )

    @asynccontextmanager
    async def open(
        self, method: str, url: str, correlation_id: UUID, seconds: float, headers: dict[str, str] | None, data: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the block reads the answer.

        Raises:
            AttemptFailedError: Something went wrong, here or while the block reads.
        """
        left = remaining()
        if left == 0:
            raise AttemptFailedError(
                ErrorCode.TIMEOUT, "The deadline of the request has passed", {"timeout_seconds": 0.0}, carried_out=False
            )
        total = seconds if left is None else min(seconds, left)
        body = data.encode("utf-8") if isinstance(data, str) else data
        own = {**_own_headers(correlation_id), **(headers or {})}
        try:
            response = await self._follow(method, URL(url), own, body, monotonic() + total)
        except Exception as error:
            raise _failure_of(error, url, total) from error
        try:
            yield response
        finally:
            # Read to its end it goes back to the pool; else the connection ends here, as its rest would come first.
            response.release() if response.content.at_eof() else response.close()

    async def _follow(
        self, method: str, url: URL, headers: dict[str, str], body: Any, ends_at: float
    ) -> aiohttp.ClientResponse:
        """The answer, behind redirects of a GET. Another server is asked without the caller's headers."""
        for _ in range(MOST_REDIRECTS + 1):
            response = await self._session.request(
                method,
                url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=max(0.001, ends_at - monotonic())),
            )
            target = self._redirect(method, response)
            if target is None:
                return response
            response.close()
            if target.origin() != url.origin():
                headers = {}
            url = target
        raise aiohttp.ClientPayloadError(f"more than {MOST_REDIRECTS} redirects")

    def _redirect(self, method: str, response: aiohttp.ClientResponse) -> URL | None:
        """Where to go on; ``None`` leaves the redirect to the caller, as an answer that is no success."""
        location = response.headers.get("Location")
        if method != "GET" or response.status not in _REDIRECTS or not location:
            return None
        target = response.url.join(URL(location))
        if target.scheme not in {"http", "https"} or (response.url.scheme == "https" and target.scheme == "http"):
            return None
        # What the session adds by itself would go along to the other server.
        if target.origin() != response.url.origin() and (self._session.headers or self._session.auth):
            return None
        return target

    async def pieces(self, response: aiohttp.ClientResponse, limit: int | None, seconds: float) -> AsyncIterator[bytes]:
        """The body in pieces.

        Raises:
            AttemptFailedError: It is larger than ``limit``, or breaks off.
        """
        size = 0
        async for piece in _read(response, seconds):
            size += len(piece)
            if limit is not None and size > limit:
                response.close()  # the rest would have to be read before the connection could be used again
                raise AttemptFailedError(
                    ErrorCode.INVALID_RESPONSE,
                    f"The answer is larger than max_response_bytes={limit}",
                    {"max_response_bytes": limit, "status_code": response.status},
                )
            yield piece


async def _read(response: aiohttp.ClientResponse, seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            piece = await response.content.readany()
        except Exception as error:
            raise _failure_of(error, str(response.url), seconds) from error
        if not piece:
            return
        yield piece


def decode_object(answer: Answer) -> dict[str, Any]:
    """The JSON object in ``answer``.

    Raises:
        AttemptFailedError: There is none.
    """
    if answer.status == 204 and not answer.body:  # noqa: PLR2004  # no content
        return {}
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise AttemptFailedError(
            ErrorCode.INVALID_RESPONSE, f"The answer is no JSON: {error}", {"status_code": answer.status}
        ) from error
    if not isinstance(value, dict):
        raise AttemptFailedError(
            ErrorCode.INVALID_RESPONSE,
            f"The answer is no JSON object but a {type(value).__name__}",
            {"status_code": answer.status},
        )
    return value


def _own_headers(correlation_id: UUID) -> dict[str, str]:
    headers = {CORRELATION_HEADER: str(correlation_id), **deadline_headers()}
    inject_trace_context(headers)
    return headers


def _failure_of(error: Exception, url: str, seconds: float) -> AttemptFailedError:
    """Time-outs first: aiohttp's are connection errors, too."""
    details = {"error_type": type(error).__name__}
    if isinstance(error, TimeoutError):
        connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
        return AttemptFailedError(
            ErrorCode.TIMEOUT,
            f"No answer within {seconds:g} s",
            {"timeout_seconds": seconds, **details},
            again=True,
            carried_out=not connecting,
        )
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        connecting = isinstance(error, aiohttp.ClientConnectorError)
        return AttemptFailedError(
            ErrorCode.CONNECTION_ERROR,
            f"No connection: {error}",
            {"target": url.split("?", maxsplit=1)[0], **details},
            again=True,
            carried_out=not connecting,
        )
    return AttemptFailedError(ErrorCode.UNKNOWN_ERROR, f"{type(error).__name__}: {error}", details)
