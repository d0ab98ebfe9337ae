"""What one request or WebSocket has come to so far: ids, route, status, sizes, times.

The layer around the application (`request_context`) makes one for each connection and lets every
message pass through it; the frameworks' adapters fill in the route, metrics and spans read it. Knows no framework.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from time import perf_counter
from typing import Any

__all__ = ["EXCHANGE_KEY", "SCOPE_KEY", "UNMATCHED", "Application", "Exchange", "Message", "Receive", "Scope", "Send"]

SCOPE_KEY = "huleedu.correlation_id"
EXCHANGE_KEY = "huleedu.exchange"
UNMATCHED = "__unmatched__"
"""Stands for every path that no route knows."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_NORMAL = 1000
_INTERNAL_ERROR = 1011  # RFC 6455: the server met an unexpected condition
_SWITCHING, _REFUSED, _FAILED, _GONE = 101, 403, 500, 499


class Exchange:
    """One connection on its way through the application.

    Attributes:
        kind: ``http`` or ``websocket``.
        correlation_id: Of the request.
        id_came_in: Whether the client sent the correlation id.
        headers: Of the request, names in lower case; the last of equal ones.
        root_path: Where the outermost application is mounted.
        route: The template of the route that answers; ``None`` as long as none has matched.
        status: As sent; ``None`` before.
        received: Bytes of the request's body as far as they are known.
        sent: Bytes of the response's body.
        started: When, by `time.perf_counter`.
        finished: When the last byte of the answer was handed over; ``None`` before.
        accepted: Whether the WebSocket was accepted.
        failed: Whether a WebSocket's handler failed: it is closed with 1011 then, whatever the framework says.
        error: What came out of the application.
        exemplar: Trace and span id, if the trace is sampled.
        measured: Whether somebody counts it; applications mounted inside leave it alone then.
        traced: Likewise for its span.
    """

    # On the class, so that a new one costs only what differs.
    correlation_id = ""
    id_came_in = False
    route: str | None = None
    status: int | None = None
    received = 0
    sent = 0
    finished: float | None = None
    accepted = False
    failed = False
    error: BaseException | None = None
    exemplar: dict[str, str] | None = None
    measured = False
    traced = False
    _ids: Sequence[tuple[bytes, bytes]] = ()

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.kind: str = scope["type"]
        self.headers: dict[bytes, bytes] = dict(scope.get("headers", ()))
        self.root_path: str = scope.get("root_path", "")
        self.started = perf_counter()
        self._receive = receive
        self._send = send

    @property
    def seconds(self) -> float:
        """From the first line of the request to the last byte of the answer, or until now."""
        return (self.finished or perf_counter()) - self.started

    @property
    def outcome(self) -> int:
        """The status, or what stands for one: 101 for a WebSocket, 499 when the client left before an answer, 500."""
        if self.failed or (self.status is None and isinstance(self.error, Exception)):
            return _FAILED
        if self.kind == "websocket":
            return _SWITCHING if self.accepted else self.status or _REFUSED
        return _GONE if self.status is None else self.status

    def answer_with(self, ids: list[tuple[bytes, bytes]]) -> None:
        """Send these headers with the answer, unless the application has put others there."""
        self._ids = ids

    def adopt(self, correlation_id: str) -> None:
        """Take an id that the service has for the request in place of one that was made here."""
        old, self.correlation_id = self.correlation_id.encode(), correlation_id
        self._ids = [(name, correlation_id.encode() if value == old else value) for name, value in self._ids]

    def send(self, message: Message) -> Awaitable[None]:
        """Pass on what the application sends."""
        kind = message["type"]
        if kind == "http.response.body":
            self.sent += len(message.get("body", b""))
            if not message.get("more_body"):
                self.finished = perf_counter()
        elif kind == "http.response.start" or kind == "websocket.http.response.start":  # noqa: PLR1714  # faster than a set
            self.status = message["status"]
            message["headers"] = self._with_ids(message.get("headers", ()))
        elif kind == "websocket.accept":
            self.accepted = True
            message["headers"] = self._with_ids(message.get("headers", ()))
        elif kind == "websocket.close":
            if self.failed and message.get("code", _NORMAL) == _NORMAL:
                message["code"] = _INTERNAL_ERROR
            self.failed = self.failed or message.get("code") == _INTERNAL_ERROR
        elif kind in {"http.response.pathsend", "http.response.zerocopysend"}:
            self.finished = perf_counter()
        return self._send(message)

    async def receive(self) -> Message:
        """Pass on what the client sends, and count it."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
        return message

    def counts_body(self) -> Receive:
        """What the application is to receive through: the body is counted when its length was not announced."""
        length = self.headers.get(b"content-length")
        if length is not None:
            self.received = int(length) if length.isdigit() else 0
            return self._receive
        return self.receive if b"transfer-encoding" in self.headers else self._receive

    def _with_ids(self, own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own = list(own)
        present = {bytes(name).lower() for name, _ in own}
        return [*own, *(pair for pair in self._ids if pair[0] not in present)]
