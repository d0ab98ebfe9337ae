"""Queues commands, sends those of one turn of the event loop together, reconnects, repeats what is safe to repeat.

`RedisClient` owns one. A command that is alone is written at once, in its caller's own turn; when several come in one
turn they are written together at its end. So nobody waits for company, and the batches are as large as the load is.
"""

import asyncio
import contextvars
import copy
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from huleedu_service_libs._backoff import grown, spread
from huleedu_service_libs._clock import Sleep
from huleedu_service_libs._clock import sleep as real_sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor.commands import PING, Command
from huleedu_service_libs._redis_executor.config import PipeliningConfig
from huleedu_service_libs._redis_executor.errors import (
    GivenUpError,
    RedisOverloadedError,
    ReplyLateError,
    ReplyLostError,
)
from huleedu_service_libs._redis_executor.line import Call, Line, Opened
from huleedu_service_libs._redis_executor.reports import NO_LISTENER, ExecutorListener
from huleedu_service_libs._tasks import begin, look_away

with requires_extra("redis", module=__name__):
    from hiredis import pack_command
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import DataError

__all__ = ["Executor"]

_LONGEST_DELAY_S = 2.0  # between attempts to connect, however many are allowed


class Executor:
    """Sends commands over one connection at a time, which it opens when there is something to send.

    Belongs to one event loop.

    Args:
        open_connection: Connects and authenticates.
        config: Sizes.
        reply_limit_s: Seconds without a byte after which a connection counts as dead.
        wait_limit_s: Seconds that a command waits for its turn.
        keep_alive_s: Seconds after which an idle connection is asked whether it lives, so that a dead one is replaced
            before somebody needs it.
        listener: Is told what happens.
        sleep: Waits between attempts to connect.
        draw: A random number below 1, for the jitter.
    """

    def __init__(
        self,
        open_connection: Callable[[], Awaitable[Opened]],
        config: PipeliningConfig,
        *,
        reply_limit_s: float,
        wait_limit_s: float,
        keep_alive_s: float = 30.0,
        listener: ExecutorListener = NO_LISTENER,
        sleep: Sleep = real_sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._open_connection = open_connection
        self._config = config
        self._reply_limit_s = reply_limit_s
        self._wait_limit_s = wait_limit_s
        self._keep_alive_s = keep_alive_s
        self._listener = listener
        self._sleep = sleep
        self._draw = draw
        self._loop: asyncio.AbstractEventLoop | None = None
        self.forget()

    def forget(self) -> None:
        """Drop everything without a word: the loop that it belonged to is closed."""
        self._waiting: deque[Call] = deque()  # bound: the configuration's `waiting`, see submit
        self._line: Line | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._flush_due = False
        self._alone = True
        self._connected_before = False
        self._context = contextvars.Context()  # what happens to a batch is no single caller's
        self._loop = None

    def submit(self, command: Command, *args: Any) -> "asyncio.Future[Any]":
        """Send a command.

        Args:
            command: What.
            args: Its arguments: ``str``, ``bytes``, ``int`` or ``float``.

        Returns:
            The reply as the server gives it, text decoded; or the error. Cancelling it harms nobody.

        Raises:
            redis.exceptions.DataError: An argument has another type.
            RedisOverloadedError: Too many commands wait.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        try:
            packed = pack_command(command.words + args)
        except TypeError as error:
            raise DataError(_unfit(command, args)) from error
        call = Call(command, packed, loop.create_future(), loop.time())
        line = self._line
        if self._alone and line is not None and not (self._waiting or line.unanswered or line.closing or line.retired):
            line.write([call])
            self._listener.sent(1)
        else:
            self._queue(call, loop)
        return call.reply

    async def ping(self) -> None:
        """Ask whether the server answers. Raises as `submit` does."""
        await self.submit(PING)

    def _queue(self, call: Call, loop: asyncio.AbstractEventLoop) -> None:
        if len(self._waiting) >= self._config.queue_size:
            raise RedisOverloadedError(call.command.name, f"{self._config.queue_size} commands wait already")
        self._waiting.append(call)
        if not self._flush_due:
            self._flush_due = True
            loop.call_soon(self._flush, context=self._context)

    # --- writing

    def _flush(self) -> None:
        """Write what waits, as far as there is room; connect for it if need be."""
        self._flush_due = False
        line = self._line
        if line is None or line.closing or line.retired:
            if self._waiting:
                self._connect_soon()
            return
        if line.blocked:
            return
        batch = self._take(min(self._config.batch_commands, self._config.unanswered - len(line.unanswered)))
        if batch:
            self._alone = len(batch) == 1 and not line.unanswered
            line.write(batch)
            self._listener.sent(len(batch))
        if self._waiting and len(line.unanswered) < self._config.unanswered:
            self._flush_soon()

    def _flush_soon(self) -> None:
        if not self._flush_due and self._loop is not None:
            self._flush_due = True
            self._loop.call_soon(self._flush, context=self._context)

    def _take(self, room: int) -> list[Call]:
        batch: list[Call] = []
        waiting, size, limit = self._waiting, 0, self._config.batch_bytes
        while waiting and len(batch) < room:
            call = waiting[0]
            size += len(call.packed)
            if size > limit and batch:
                break
            waiting.popleft()
            if call.reply.done() or self._waited_too_long(call):
                continue
            batch.append(call)
        return batch

    def _waited_too_long(self, call: Call) -> bool:
        if self._loop is None or self._loop.time() - call.since < self._wait_limit_s:
            return False
        call.reply.set_exception(
            RedisOverloadedError(call.command.name, f"it waited {self._wait_limit_s:g} s for its turn")
        )
        return True

    # --- what a line tells

    def answered(self, calls: list[Call], at: float) -> None:
        """See `LineOwner`."""
        self._listener.answered(calls, at)
        if self._waiting:
            self._flush_soon()

    def writable(self) -> None:
        """See `LineOwner`."""
        if self._waiting:
            self._flush_soon()

    def lost(self, line: Line, unanswered: list[Call], error: Exception | None) -> None:
        """See `LineOwner`. Repeats what is safe to repeat, before all that waits."""
        if line is self._line:
            self._line = None
        again: list[Call] = []
        for call in unanswered:
            if call.reply.done():
                continue
            if self._repeats(call, error):
                again.append(call)
            else:
                call.reply.set_exception(_lost(call, error))
        self._waiting.extendleft(reversed(again))
        self._listener.lost(len(unanswered), len(again), error)
        if self._waiting:
            self._flush_soon()  # connects, unless this line was retiring and there is another already

    def _repeats(self, call: Call, error: Exception | None) -> bool:
        # A server that is silent is not helped by asking it again, and a stopped client asks nobody
        hopeless = isinstance(error, ReplyLateError | GivenUpError)
        return call.command.repeatable and call.sent < self._config.attempts and not hopeless

    # --- connecting

    def _connect_soon(self) -> None:
        if self._connecting is None and self._loop is not None:
            self._connecting = begin(self._connect(), name="redis-connect", context=contextvars.Context())

    async def _connect(self) -> None:
        """Open a line for those who wait; when that fails they get the error, except those being repeated."""
        try:
            failures, first = 0, self._config.first_delay_s
            while self._waiting:
                try:
                    opened = await self._open_connection()
                except Exception as error:  # noqa: BLE001  # goes to those who wait
                    self._refuse(error)
                    failures += 1
                    if self._waiting:
                        longest = grown(failures, first=first, longest=max(first, _LONGEST_DELAY_S))
                        await self._sleep(spread(longest, self._draw()))
                else:
                    self._line = Line(opened, self, self._reply_limit_s)
                    self._keep_alive(self._line)
                    self._listener.connected(again=self._connected_before)
                    self._connected_before = True
                    return
        finally:
            self._connecting = None
            self._flush_soon()

    def _keep_alive(self, line: Line) -> None:
        """Ask an idle line whether it lives, again and again until it is closed; a dead one is cut by its time-out."""
        if line.closed.done() or self._loop is None:
            return
        if line is self._line and line.idle_for(self._loop.time()) >= self._keep_alive_s:
            self.submit(PING).add_done_callback(look_away)  # the line itself reports what becomes of it
        self._loop.call_later(self._keep_alive_s, self._keep_alive, line, context=self._context)

    def _refuse(self, error: Exception) -> None:
        kept: list[Call] = []
        for call in self._waiting:
            if call.reply.done():
                continue
            if 0 < call.sent < self._config.attempts:
                call.sent += 1
                kept.append(call)
            else:
                call.reply.set_exception(copy.copy(error))  # each caller adds its own traceback
        self._waiting = deque(kept)

    # --- the end

    async def aclose(self, limit_s: float) -> None:
        """Wait for the replies to what was issued, so long at most, then close. Usable again afterwards.

        Raises:
            TimeoutError: The limit was reached; what had no reply has a `ReplyLostError`, and the connection is cut.
        """
        try:
            async with asyncio.timeout(limit_s):
                await self._drained()
                if self._line is not None:
                    self._line.retire()
                    await asyncio.shield(self._line.closed)
        except TimeoutError as error:
            raise TimeoutError(f"connections not closed within {limit_s:g} s") from error
        finally:
            self.cut()

    async def _drained(self) -> None:
        while pending := [reply for reply in self._issued() if not reply.done()]:
            await asyncio.wait(pending)  # no limit: the caller has one

    def _issued(self) -> "list[asyncio.Future[Any]]":
        under_way = self._line.unanswered if self._line is not None else ()
        return [call.reply for call in (*self._waiting, *under_way)]

    def cut(self) -> None:
        """Close at once; what is under way or waits gets an error."""
        if self._connecting is not None:
            self._connecting.cancel()
        stopped = RedisConnectionError("the client was stopped")
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            if not call.reply.done():
                call.reply.set_exception(copy.copy(stopped))
        if self._line is not None:
            self._line.abort(GivenUpError("what was under way"))
            self._line = None


def _lost(call: Call, error: Exception | None) -> Exception:
    if isinstance(error, ReplyLateError):
        return ReplyLateError(call.command.name, error.limit_s)
    if isinstance(error, GivenUpError):
        return GivenUpError(call.command.name)
    return ReplyLostError(call.command.name, str(error) if error is not None else "the server closed it")


def _unfit(command: Command, args: tuple[Any, ...]) -> str:
    kinds = sorted({type(each).__name__ for each in args if type(each) not in {str, bytes, int, float}})
    return f"{command.name} takes str, bytes, int and float, not {', '.join(kinds)}: convert the value first"
