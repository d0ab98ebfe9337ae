"""Runs a handler in the transaction that records the event: both are committed, or neither.

Services decorate handlers with `Inbox.handler`, hand batches to
`Inbox.process_many`, or call `Inbox.claim` in a transaction of their own.
Knows no Kafka client.
"""

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.delivery import context_of, coordinates, position
from huleedu_service_libs.inbox.batches import Batches, Run
from huleedu_service_libs.inbox.claims import Claims
from huleedu_service_libs.inbox.config import InboxConfig
from huleedu_service_libs.inbox.errors import is_stale_connection
from huleedu_service_libs.inbox.events import InboxEvent
from huleedu_service_libs.inbox.fast_path import FastPath
from huleedu_service_libs.inbox.metrics import EVENTS
from huleedu_service_libs.inbox.outcomes import InboxOutcome
from huleedu_service_libs.inbox.transactions import transaction_of
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.store_policy import DeferredError, StoreDownError

__all__ = ["Inbox"]

_T = TypeVar("_T")

logger = create_service_logger("huleedu_service_libs.inbox")


class _OutOfReachError(Exception):
    """PostgreSQL could not say whether the event was processed; nothing has run."""


class Inbox:
    """Decides in PostgreSQL whether an event was processed. Any number of deliveries at the same time.

    Args:
        sessions: Makes the sessions in which handlers run, an `async_sessionmaker`.
        config: Who processes.
        redis: Saves the query for events that are known as processed; right without it.
        clock: Monotonic seconds.

    Attributes:
        config: As given.
    """

    def __init__(
        self,
        sessions: Callable[[], AsyncSession],
        config: InboxConfig,
        *,
        redis: RedisClientProtocol | None = None,
        clock: _clock.Clock = _clock.monotonic,
    ) -> None:
        self.config = config
        self._sessions = sessions
        self._claims = Claims(config)
        self._front = FastPath(redis, config, clock=clock) if redis is not None else None
        self._batches = Batches(
            consumer=config.consumer,
            sessions=sessions,
            claims=self._claims,
            front=self._front,
            one=self._one_of_batch,
        )

    def __repr__(self) -> str:
        return f"Inbox(consumer={self.config.consumer!r})"

    def handler(self, function: Callable[..., Awaitable[_T]]) -> Callable[..., Awaitable[_T | None]]:
        """Decorate ``async def handle(msg, *args, session, **kwargs)``, which then has one effect for each event.

        The handler works in ``session`` and does not commit: the inbox does, together with its row. What
        the decorator makes returns the handler's result, or ``None`` for a duplicate, and raises as `process`.
        """

        @functools.wraps(function)
        async def wrapper(msg: Any, *args: Any, **kwargs: Any) -> _T | None:
            async def run(session: AsyncSession) -> _T:
                return await function(msg, *args, session=session, **kwargs)

            return await self.process(msg, run)

        return wrapper

    async def process(self, msg: Any, run: Callable[[AsyncSession], Awaitable[_T]]) -> _T | None:
        """Run ``run`` in the transaction that records the event; its result, ``None`` for a duplicate.

        Raises:
            ValueError: The message does not say which event it is, or (`PayloadMismatchError`) its id was
                processed with other data.
            InboxBusyError: Another worker has held the event for too long.
            StoreDownError: PostgreSQL does not answer, and ``config.store_down`` is not ``process``.
            InboxTableMissingError: There is no table.
            InboxTransactionError: ``run`` committed, rolled back, or went on after an error of the database.
            Exception: What ``run`` or the commit raises; then nothing is recorded.
        """
        return (await self._process(msg, run))[1]

    async def process_many(self, messages: Sequence[Any], run: Run) -> list[InboxOutcome]:
        """Process several messages in one transaction, and one by one if that fails.

        Handlers run one after the other in the given order. When one raises, everything is rolled back,
        and each message gets a transaction of its own; then later messages of a failed one's key are held
        back. A handler whose effects are not all in the session may thus repeat those others.

        Args:
            messages: Any number; order within a key is kept.
            run: Called with a message and the session.

        Returns:
            One outcome for each message, in order. What `process` would raise stands in it.
        """
        return await self._batches.process(messages, run)

    async def claim(self, session: AsyncSession, msg: Any) -> bool:
        """Record the event in a transaction of the caller's; ``False`` when it was processed before.

        Waits for another transaction that has claimed the same event, for ``config.claim_timeout_s`` at most.

        Raises:
            Exception: As `process`; while PostgreSQL is out of reach, what the driver raises.
        """
        return (await self._claims.take(session, [self._claims.event_of(msg)]))[0]

    async def claim_many(self, session: AsyncSession, messages: Sequence[Any]) -> list[bool]:
        """The same for many messages, in one statement; of two with the same event the first is new."""
        return await self._claims.take(session, [self._claims.event_of(msg) for msg in messages])

    async def _process(self, msg: Any, run: Callable[[AsyncSession], Awaitable[_T]]) -> tuple[bool, _T | None]:
        """Whether the handler ran, and its result."""
        event = self._claims.event_of(msg)
        with context_of(event.identity, msg), operation_scope(self.config.consumer, coordinates=coordinates(msg)):
            if self._front is not None and (await self._front.known([event]))[0]:
                self._note_duplicate(event, msg, "redis")
                return False, None
            try:
                ran, result = await self._in_transaction_at_last(event, run)
            except _OutOfReachError as error:
                down = error.__cause__ or error
            else:
                await self._note(event, msg, processed=ran)
                return ran, result
            self._refuse_if_declared(down)
            async with self._sessions() as session, transaction_of(session, self.config.consumer):
                return True, await run(session)

    async def _one_of_batch(self, msg: Any, run: Run) -> InboxOutcome:
        async def run_in(session: AsyncSession) -> Any:
            return await run(msg, session)

        try:
            ran, result = await self._process(msg, run_in)
        except Exception as error:  # noqa: BLE001  # told to the caller in the outcome
            return InboxOutcome(status="failed", error=error)
        return InboxOutcome(status="processed" if ran else "duplicate", result=result)

    async def _in_transaction_at_last(
        self, event: InboxEvent, run: Callable[[AsyncSession], Awaitable[_T]]
    ) -> tuple[bool, _T | None]:
        """Once more on a fresh connection when the pool's had died unnoticed, as after a restart of the server."""
        try:
            return await self._in_transaction(event, run)
        except _OutOfReachError as error:
            if not is_stale_connection(error.__cause__):
                raise
        return await self._in_transaction(event, run)

    async def _in_transaction(
        self, event: InboxEvent, run: Callable[[AsyncSession], Awaitable[_T]]
    ) -> tuple[bool, _T | None]:
        async with self._sessions() as session, transaction_of(session, self.config.consumer):
            try:
                new = (await self._claims.take(session, [event]))[0]
            except Exception as error:
                if is_outage(error) and not isinstance(error, DeferredError):  # busy is not away
                    raise _OutOfReachError from error
                raise
            return new, await run(session) if new else None

    async def _note(self, event: InboxEvent, msg: Any, *, processed: bool) -> None:
        if processed:
            self._count("processed")
        else:
            self._note_duplicate(event, msg, "postgresql")
        if self._front is not None:
            await self._front.remember([event])

    def _refuse_if_declared(self, down: BaseException) -> None:
        """Raise what the policy says while PostgreSQL is out of reach, unless that is to go on."""
        policy, failure = self.config.store_down, error_fields(down)
        logger.error("inbox_store_down", consumer=self.config.consumer, action=policy, **failure)
        if policy == "process":
            self._count("unprotected")
            return
        self._count("store_down")
        raise StoreDownError(store="postgresql", operation="claim", policy=policy, reason=failure["error"]) from down

    def _count(self, outcome: str) -> None:
        EVENTS.labels(consumer=self.config.consumer, outcome=outcome).inc()

    def _note_duplicate(self, event: InboxEvent, msg: Any, told_by: str) -> None:
        self._count("duplicate")
        logger.info(
            "DUPLICATE_EVENT_DETECTED: processed before",
            consumer=self.config.consumer,
            inbox_event_id=str(event.id),
            told_by=told_by,
            action="skip",
            **position(msg),
        )
