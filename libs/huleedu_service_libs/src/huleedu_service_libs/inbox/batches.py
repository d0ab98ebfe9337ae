"""Several messages in one transaction; one by one when that fails.

`Inbox.process_many` is the way in. One statement claims them all and one commit
ends them, so the price of the inbox is shared by the batch.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.delivery import context_of, coordinates
from huleedu_service_libs.inbox.claims import Claims
from huleedu_service_libs.inbox.events import InboxEvent
from huleedu_service_libs.inbox.fast_path import FastPath
from huleedu_service_libs.inbox.metrics import BATCHES, EVENTS
from huleedu_service_libs.inbox.outcomes import InboxOutcome
from huleedu_service_libs.inbox.transactions import transaction_of
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.store_policy import StoreDownError

__all__ = ["Batches", "Run"]

Run = Callable[[Any, AsyncSession], Awaitable[Any]]
"""Handles one message in a session."""

_DUPLICATE = InboxOutcome(status="duplicate")

logger = create_service_logger("huleedu_service_libs.inbox")


class Batches:
    """Processes batches of one consumer.

    Args:
        consumer: Its name.
        sessions: Makes sessions.
        claims: Says what is new.
        front: Redis, when there is one.
        one: Processes a single message; never raises.
    """

    def __init__(
        self,
        *,
        consumer: str,
        sessions: Callable[[], AsyncSession],
        claims: Claims,
        front: FastPath | None,
        one: Callable[[Any, Run], Awaitable[InboxOutcome]],
    ) -> None:
        self._consumer = consumer
        self._sessions = sessions
        self._claims = claims
        self._front = front
        self._one = one

    async def process(self, messages: Sequence[Any], run: Run) -> list[InboxOutcome]:
        """One outcome for each message, in order."""
        if len(messages) > 1:
            try:
                outcomes = await self._together(messages, run)
            except Exception as error:  # noqa: BLE001  # whose fault it is shows when each runs by itself
                logger.info("inbox_batch_split", consumer=self._consumer, messages=len(messages), **error_fields(error))
            else:
                BATCHES.labels(consumer=self._consumer, way="together").inc()
                return outcomes
            BATCHES.labels(consumer=self._consumer, way="one_by_one").inc()
        return await self._one_by_one(messages, run)

    async def _together(self, messages: Sequence[Any], run: Run) -> list[InboxOutcome]:
        events = [self._claims.event_of(msg) for msg in messages]
        known = await self._front.known(events) if self._front is not None else [False] * len(events)
        outcomes = [_DUPLICATE] * len(events)
        places = [place for place, is_known in enumerate(known) if not is_known]
        if places:
            async with self._sessions() as session, transaction_of(session, self._consumer):
                new = await self._claims.take(session, [events[place] for place in places])
                for place, is_new in zip(places, new, strict=True):
                    if is_new:
                        outcomes[place] = await self._run(messages[place], events[place], run, session)
        if self._front is not None:
            await self._front.remember([events[place] for place in places])
        self._count(outcomes)
        return outcomes

    async def _run(self, msg: Any, event: InboxEvent, run: Run, session: AsyncSession) -> InboxOutcome:
        with context_of(event.identity, msg), operation_scope(self._consumer, coordinates=coordinates(msg)):
            return InboxOutcome(status="processed", result=await run(msg, session))

    def _count(self, outcomes: Sequence[InboxOutcome]) -> None:
        processed = sum(outcome.status == "processed" for outcome in outcomes)
        EVENTS.labels(consumer=self._consumer, outcome="processed").inc(processed)
        EVENTS.labels(consumer=self._consumer, outcome="duplicate").inc(len(outcomes) - processed)

    async def _one_by_one(self, messages: Sequence[Any], run: Run) -> list[InboxOutcome]:
        outcomes: list[InboxOutcome] = []
        stuck: set[Any] = set()
        down: InboxOutcome | None = None
        for msg in messages:
            lane = (getattr(msg, "topic", None), getattr(msg, "partition", None), getattr(msg, "key", None))
            if down is not None:
                outcome = down  # the next would only wait for the same time-out
            elif lane in stuck:
                outcome = InboxOutcome(status="held-back")
            else:
                outcome = await self._one(msg, run)
            if not outcome.done:
                stuck.add(lane)
                down = outcome if isinstance(outcome.error, StoreDownError) else down
            outcomes.append(outcome)
        return outcomes
