"""Which events are new to a consumer: takes claims in a session, compares payloads, names what goes wrong.

`Inbox` and its batches ask. Opens no transaction and ends none.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs.inbox.config import InboxConfig
from huleedu_service_libs.inbox.errors import (
    InboxBusyError,
    InboxTableMissingError,
    PayloadMismatchError,
    is_missing_table,
)
from huleedu_service_libs.inbox.events import InboxEvent, inbox_event
from huleedu_service_libs.inbox.metrics import EVENTS
from huleedu_service_libs.inbox.table import insert_new, stored_hashes
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Claims"]

logger = create_service_logger("huleedu_service_libs.inbox")


class Claims:
    """Claims events for one consumer.

    Args:
        config: Who claims, and how patient.
    """

    def __init__(self, config: InboxConfig) -> None:
        self._config = config

    def event_of(self, msg: Any) -> InboxEvent:
        """The event that a message carries.

        Raises:
            ValueError: It does not say.
        """
        return inbox_event(msg, with_payload_hash=self._config.check_payload)

    async def take(self, session: AsyncSession, events: Sequence[InboxEvent]) -> list[bool]:
        """Record the events that are new; for each whether it is. Of two that are the same the first is new.

        Raises:
            InboxBusyError: Another worker's transaction has held one of them for too long.
            PayloadMismatchError: One was processed with other data.
            InboxTableMissingError: There is no table.
            Exception: What the driver raises.
        """
        limit = asyncio.timeout(self._config.claim_timeout_s)
        try:
            async with limit:
                new = await insert_new(session, self._config.consumer, events)
        except Exception as error:
            if limit.expired():
                raise self._busy(events) from error
            if is_missing_table(error):
                raise InboxTableMissingError from error
            raise
        if self._config.check_payload:
            await self._compare(session, events, new)
        return [_take_out(new, event.id) for event in events]

    def _busy(self, events: Sequence[InboxEvent]) -> InboxBusyError:
        only = events[0].id if len(events) == 1 else None
        return InboxBusyError(consumer=self._config.consumer, event_id=only, waited_s=self._config.claim_timeout_s)

    async def _compare(self, session: AsyncSession, events: Sequence[InboxEvent], new: set[UUID]) -> None:
        # The hashes of this batch first: an event may be in it twice, with different data.
        hashes: dict[UUID, bytes | None] = {}
        for event in events:
            if event.id in new:
                hashes.setdefault(event.id, event.payload_hash)
        old = [event.id for event in events if event.id not in new]
        if old:
            hashes.update(await stored_hashes(session, self._config.consumer, old))
        for event in events:
            stored = hashes.get(event.id)
            if stored is not None and stored != event.payload_hash:
                raise self._mismatch(event)

    def _mismatch(self, event: InboxEvent) -> PayloadMismatchError:
        EVENTS.labels(consumer=self._config.consumer, outcome="mismatch").inc()
        error = PayloadMismatchError(
            consumer=self._config.consumer, event_id=event.id, event_type=event.identity.event_type
        )
        logger.error("inbox_payload_mismatch", consumer=self._config.consumer, error=str(error))
        return error


def _take_out(new: set[UUID], event_id: UUID) -> bool:
    if event_id not in new:
        return False
    new.remove(event_id)  # what comes once more in this batch is a duplicate
    return True
