"""One connection on which many commands are under way. Replies come in the order of the commands.

``executor`` opens and feeds it. It takes the transport over from the driver once that has connected and
authenticated, and parses with the driver's parser, hiredis. Knows nothing of repeating.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor.commands import Command
from huleedu_service_libs._redis_executor.errors import ReplyLateError

with requires_extra("redis", module=__name__):
    from hiredis import PushNotification, Reader
    from redis.exceptions import InvalidResponse, ReadOnlyError

__all__ = ["Call", "Line", "LineOwner", "Opened"]

_INCOMPLETE: Any = object()


class Call:
    """A command, on its way.

    Attributes:
        command: Its kind.
        packed: Its bytes.
        reply: What its caller waits for.
        since: When it was issued, in the loop's time.
        sent: How often it was sent.
    """

    __slots__ = ("command", "packed", "reply", "sent", "since")

    def __init__(self, command: Command, packed: bytes, reply: "asyncio.Future[Any]", since: float) -> None:
        self.command = command
        self.packed = packed
        self.reply = reply
        self.since = since
        self.sent = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A connection that is ready for commands.

    Attributes:
        transport: Whose protocol may be replaced.
        received: Bytes that have arrived already.
        error_of: Makes the driver's exception of an error reply's text.
        kept: Whatever must live as long as the connection.
    """

    transport: asyncio.Transport
    received: bytes
    error_of: Callable[[str], Exception]
    kept: object


class LineOwner(Protocol):
    """Who is told of a line's fate."""

    def answered(self, calls: list[Call], at: float) -> None:
        """These have their replies since ``at``, in the loop's time; there is room for others."""
        ...

    def writable(self) -> None:
        """The network takes bytes again."""
        ...

    def lost(self, line: "Line", unanswered: list[Call], error: Exception | None) -> None:
        """The connection is closed, and these have no reply."""
        ...


class Line(asyncio.Protocol):
    """See the module.

    Args:
        opened: The connection.
        owner: Is told.
        reply_limit_s: Seconds without a byte after which the connection counts as dead.

    Attributes:
        unanswered: Commands under way, oldest first.
        blocked: Whether the network takes no more bytes at the moment.
        retired: Whether it shall not be given commands any more.
        closed: Done when the connection is closed.
    """

    def __init__(self, opened: Opened, owner: LineOwner, reply_limit_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._owner = owner
        self._limit_s = reply_limit_s
        self._opened = opened
        self._error: Exception | None = None
        self._progress = self._loop.time()
        self._watch: asyncio.TimerHandle | None = None
        reader = Reader(
            protocolError=InvalidResponse,
            replyError=opened.error_of,
            encoding="utf-8",
            errors="strict",
            notEnoughData=_INCOMPLETE,
        )
        self._feed, self._next_reply = reader.feed, reader.gets
        self.unanswered: deque[Call] = deque()  # bound: the owner sends no more than `unanswered`
        self.blocked = False
        self.retired = False
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._transport = opened.transport
        self._driver = self._transport.get_protocol()
        self._transport.set_protocol(self)
        if opened.received:
            self.data_received(opened.received)

    @property
    def closing(self) -> bool:
        """Whether the transport has begun to close, which takes a moment."""
        return self._transport.is_closing()

    def idle_for(self, now: float) -> float:
        """Seconds since anything came, or since commands went out that wait for an answer; 0 while they do."""
        return 0.0 if self.unanswered else now - self._progress

    def write(self, calls: list[Call]) -> None:
        """Send commands in one piece."""
        if not self.unanswered:
            self._progress = self._loop.time()
        self.unanswered.extend(calls)
        for call in calls:
            call.sent += 1
        self._transport.write(calls[0].packed if len(calls) == 1 else b"".join([call.packed for call in calls]))
        if self._watch is None:
            self._watch = self._loop.call_at(self._progress + self._limit_s, self._look)

    def retire(self) -> None:
        """Take no further commands, and close when those under way are answered."""
        self.retired = True
        if not self.unanswered:
            self._transport.close()

    def abort(self, error: Exception | None = None) -> None:
        """Close at once."""
        self._error = self._error or error
        self._transport.abort()

    # --- asyncio's side

    def data_received(self, data: bytes) -> None:
        """Give replies to their callers."""
        self._progress = self._loop.time()
        self._feed(data)
        answered: list[Call] = []
        try:
            self._answer(answered)
        except (InvalidResponse, IndexError) as error:  # no RESP, or a reply that nobody asked for
            self.abort(InvalidResponse(f"what came is no answer: {error}"))
        if answered:
            self._owner.answered(answered, self._progress)
            if self.retired and not self.unanswered:
                self._transport.close()

    def _answer(self, answered: list[Call]) -> None:
        next_reply, unanswered = self._next_reply, self.unanswered
        while True:
            try:
                reply = next_reply()
            except UnicodeDecodeError as error:  # of this reply alone, and it is consumed
                reply = error
            if reply is _INCOMPLETE:
                return
            if type(reply) is PushNotification:
                continue
            call = unanswered.popleft()
            answered.append(call)
            future = call.reply
            if isinstance(reply, Exception):
                self._fail(future, reply)
            elif not future.done():
                future.set_result(reply)

    def _fail(self, future: "asyncio.Future[Any]", error: Exception) -> None:
        if isinstance(error, ReadOnlyError):
            self.retired = True  # after a fail-over this is a replica: connect anew, to where the writer is now
        if not future.done():
            future.set_exception(error)

    def pause_writing(self) -> None:
        """The network is slower than we are."""
        self.blocked = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self.blocked = False
        self._owner.writable()

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        if self._watch is not None:
            self._watch.cancel()
        cast("asyncio.Protocol", self._driver).connection_lost(error)
        unanswered = list(self.unanswered)
        self.unanswered.clear()
        if not self.closed.done():
            self.closed.set_result(None)
        self._owner.lost(self, unanswered, self._error or error)

    def _look(self) -> None:
        """Whether Redis still answers."""
        self._watch = None
        if not self.unanswered:
            return
        due = self._progress + self._limit_s
        if self._loop.time() >= due:
            self.abort(ReplyLateError(self.unanswered[0].command.name, self._limit_s))
        else:
            self._watch = self._loop.call_at(due, self._look)
