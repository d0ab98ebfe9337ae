"""What one request or WebSocket has come to so far: ids, route, status, sizes, times.

The layer around the application (`request_context`) makes one for each connection and lets every
message pass through it; the frameworks' adapters fill in the route, metrics and spans read it. Knows no framework.
"""

import asyncio
from collections.abc import Awaitable, Iterable
from time import perf_counter
from typing import Any

from huleedu_service_libs._asgi import Message, Receive, Scope, Send
from huleedu_service_libs._tasks import is_cancelled

__all__ = ["EXCHANGE_KEY", "SCOPE_KEY", "UNMATCHED", "Exchange"]

SCOPE_KEY = "huleedu.correlation_id"
EXCHANGE_KEY = "huleedu.exchange"
UNMATCHED = "__unmatched__"
"""Stands for every path that no route knows."""

_NORMAL = 1000
_INTERNAL_ERROR = 1011  # RFC 6455: the server met an unexpected condition
_SWITCHING, _REFUSED, _GONE, _FAILED = 101, 403, 499, 500
_ID_NAMES = frozenset({b"x-correlation-id", b"x-trace-id", b"x-span-id", b"traceparent"})
_BELIEVED_DIGITS = 7
"""Of a length that a client announces: what claims to be larger is counted as it comes."""
# What frameworks raise in whoever reads or writes when the client has left. By name: this module knows none of them.
_PARTINGS = frozenset({"ClientDisconnect", "WebSocketDisconnect", "ClientDisconnected"})


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
        closed: Whether the application has closed the WebSocket.
        failed: Whether a WebSocket's handler failed: it is closed with 1011 then, whatever the framework says.
        left: Whether the application was told that the client is gone.
        left_early: Whether that was before there was an answer.
        error: What came out of the application.
        cancelled: Whether it was cancelled from outside, such as by the server at its end.
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
    closed = False
    failed = False
    left = False
    left_early = False
    error: BaseException | None = None
    cancelled = False
    exemplar: dict[str, str] | None = None
    measured = False
    traced = False
    _ids: list[tuple[bytes, bytes]] | None = None
    _counts = False

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
        if self.kind == "websocket":
            return self._session_outcome()
        status = self.status
        if status is None:
            if self.error is None:  # servers answer 500 themselves, unless there is nobody to answer
                return _GONE if self.left else _FAILED
            return _FAILED if self.fault is not None else _GONE
        return _GONE if self.left_early and status >= _FAILED else status

    def _session_outcome(self) -> int:
        if self.failed or self.fault is not None:
            return _FAILED
        if self.accepted:
            return _SWITCHING
        return self.status or (_GONE if self.left else _REFUSED)

    @property
    def fault(self) -> BaseException | None:
        """What came out of the application, unless it is how frameworks and servers tell that it is over."""
        error = self.error
        if error is None or type(error).__name__ in _PARTINGS:
            return None
        if isinstance(error, asyncio.CancelledError) and (self.cancelled or self.left):
            return None
        return error

    @property
    def interrupted(self) -> str | None:
        """By what an answer ended in its middle: ``error``, ``client`` or ``server``; ``None`` when it did not."""
        if self.status is None or self.finished is not None or self.kind != "http":
            return None
        if self.fault is not None:
            return "error"
        return "server" if self.cancelled and not self.left else "client"

    def release(self) -> None:
        """Let go of the server's side: it holds the scope, which holds this, and only the garbage collector would part them."""
        self._receive = self._send = _over

    def ended_with(self, error: BaseException) -> None:
        """``error`` leaves the application, or a group of this one does: Quart 0.23 handles requests in a task group."""
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            (error,) = error.exceptions
        self.error = error
        if isinstance(error, asyncio.CancelledError):
            self.cancelled = is_cancelled()

    def answer_with(self, ids: list[tuple[bytes, bytes]]) -> None:
        """Send these headers with the answer, unless the application has put others there."""
        self._ids = ids

    def adopt(self, correlation_id: str) -> None:
        """Take an id that the service has for the request in place of one that was made here."""
        old, self.correlation_id = self.correlation_id.encode(), correlation_id
        self._ids = [(name, correlation_id.encode() if value == old else value) for name, value in self._ids or ()]

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
            self._close(message)
        elif kind in {"http.response.pathsend", "http.response.zerocopysend"}:
            self.finished = perf_counter()
        return self._send(message)

    def _close(self, message: Message) -> None:
        self.closed = True
        if self.failed and message.get("code", _NORMAL) == _NORMAL:
            message["code"] = _INTERNAL_ERROR
        self.failed = self.failed or message.get("code") == _INTERNAL_ERROR
        if not self.accepted and self.status is None:
            self.status = _REFUSED  # which servers answer to a handshake that is closed

    async def receive(self) -> Message:
        """Pass on what the client sends, and note when it is gone."""
        message = await self._receive()
        kind = message["type"]
        if kind == "http.request":
            if self._counts:
                self.received += len(message.get("body", b""))
        elif kind == "http.disconnect" or kind == "websocket.disconnect":  # noqa: PLR1714  # as above
            self.left = True
            self.left_early = self.left_early or (self.status is None and not self.accepted)
        return message

    def expect_body(self) -> None:
        """Believe the announced length of the body, or else count it as it comes; HTTP/2 announces none."""
        length = self.headers.get(b"content-length")
        if length is not None and len(length) <= _BELIEVED_DIGITS and length.isdigit():
            self.received = int(length)
        else:
            self._counts = True

    def _with_ids(self, own: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        own, ids = list(own), self._ids or []
        present = [bytes(name).lower() for name, _ in own]
        if _ID_NAMES.isdisjoint(present):
            return own + ids
        return [*own, *(pair for pair in ids if pair[0] not in present)]


async def _over(*_: Message) -> Any:
    raise RuntimeError("the application has returned: nothing can be sent or received for this request any more")
