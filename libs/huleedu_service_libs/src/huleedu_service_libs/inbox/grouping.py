"""Deliveries that arrive at the same time share a transaction, and with it the price of a commit.

`InboxStep` uses it. While a transaction runs the next one fills up, so a lone delivery
waits for nobody and a busy consumer commits a hundred at a time.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs._tasks import attended, begin, is_cancelled
from huleedu_service_libs.inbox.outcomes import InboxOutcome
from huleedu_service_libs.inbox.processing import Inbox
from huleedu_service_libs.store_policy import DeferredError

__all__ = ["Group"]

_Proceed = Callable[..., Awaitable[None]]


class _AbandonedError(Exception):
    """Nobody waits for this delivery any more; the others of its transaction are done without it."""


@dataclass(slots=True, eq=False)
class _Entry:
    """One delivery that waits for its turn."""

    msg: Any
    proceed: _Proceed
    done: asyncio.Future[None]
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    handler: asyncio.Task[None] | None = None
    abandoned: bool = False

    def abandon(self) -> None:
        self.abandoned = True
        if self.handler is not None:
            self.handler.cancel()

    async def run(self, session: AsyncSession) -> None:
        if self.abandoned:
            raise _AbandonedError
        # In the context of the delivery: its trace, its log fields.
        self.handler = attended(self._call(session), name="inbox-handler", context=self.context)
        try:
            await self.handler
        except asyncio.CancelledError:
            if self._was_cancelled_alone():
                raise _AbandonedError from None
            raise  # the whole transaction ends
        finally:
            self.handler = None

    def _was_cancelled_alone(self) -> bool:
        return self.abandoned and not is_cancelled()

    async def _call(self, session: AsyncSession) -> None:
        await self.proceed(session=session)

    def end(self, outcome: InboxOutcome) -> None:
        if self.done.done():
            return
        if outcome.done:
            self.done.set_result(None)
        else:
            self.done.set_exception(outcome.error or DeferredError("An earlier event of the same key failed"))


class Group:
    """Processes deliveries of one consumer together.

    Args:
        inbox: Decides, and opens the transactions.
        size: Deliveries in one transaction at most.
        parallel: Transactions at the same time; each needs a connection.
    """

    def __init__(self, inbox: Inbox, *, size: int, parallel: int) -> None:
        self._inbox = inbox
        self._size = size
        self._parallel = parallel
        self._waiting: deque[_Entry] = deque()  # bound: one for each delivery that its consumer runs
        self._running: set[asyncio.Task[None]] = set()
        self._called = False

    async def process(self, msg: Any, proceed: _Proceed) -> None:
        """Process one delivery together with those that wait; raises what `Inbox.process` raises."""
        loop = asyncio.get_running_loop()
        entry = _Entry(msg, proceed, loop.create_future())
        self._waiting.append(entry)
        if not self._called:
            self._called = True
            loop.call_soon(self._start, context=contextvars.Context())  # what arrives in this turn comes along
        try:
            await entry.done
        finally:
            if not entry.done.done() or entry.done.cancelled():
                entry.abandon()

    def _start(self) -> None:
        self._called = False
        while self._waiting and len(self._running) < self._parallel:
            entries = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            wanted = [entry for entry in entries if not entry.abandoned]
            if wanted:
                task = begin(self._together(wanted), name="inbox-group")
                self._running.add(task)
                task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    async def _together(self, entries: list[_Entry]) -> None:
        by_message = {id(entry.msg): entry for entry in entries}

        async def run(msg: Any, session: AsyncSession) -> None:
            await by_message[id(msg)].run(session)

        try:
            outcomes = await self._inbox.process_many([entry.msg for entry in entries], run)
        except BaseException as error:
            for entry in entries:
                entry.end(
                    InboxOutcome(status="failed", error=DeferredError(f"The transaction was given up: {error!r}"))
                )
            raise
        for entry, outcome in zip(entries, outcomes, strict=True):
            entry.end(outcome)
