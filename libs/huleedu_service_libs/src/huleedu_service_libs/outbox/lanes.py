"""The relay's batches from PostgreSQL, shared among any number of relays by lanes.

The keys are hashed into `LANES` lanes. A relay owns a lane while its database
session holds the lane's advisory lock; that same session reads the batches and
stores their results, so that a relay that has lost its session (and with it its
lanes) can complete nothing. Every relay also holds a shared lock that only
counts heads: each takes its fair share of the lanes, lets go what is too much when
another one comes, and takes over what a dead one leaves as soon as the server
has closed its session.

`lane_session` is that session, `statements` its SQL. Knows nothing of Kafka.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.lane_session import (
    IDLE_LIMIT_S,
    LaneSession,
    LanesLostError,
)
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.pooler_check import SharedSessionError
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.rows import Row
from huleedu_service_libs.outbox.statements import LANES, LOCK_SPACE, MEMBERSHIP
from huleedu_service_libs.outbox.writers import WriterGate, require_strict_order

__all__ = ["LANES", "LOCK_SPACE", "MEMBERSHIP", "LanesLostError", "PostgreSQLBatchStore", "SharedSessionError"]

logger = create_service_logger("huleedu.outbox.lanes")


class PostgreSQLBatchStore:
    """A relay's share of the outbox.

    Args:
        engine: One of its connections is held while the relay runs.
        service_name: Label of the metrics.
        max_error_length: Characters of an error that are stored.
        gate: Where order is strict: says how far may be read.
        clock: Monotonic seconds.
        idle_limit_s: After so long without a sign of the relay the server takes its lanes away.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        service_name: str,
        max_error_length: int,
        gate: WriterGate | None = None,
        clock: _clock.Clock = _clock.monotonic,
        idle_limit_s: float = IDLE_LIMIT_S,
    ) -> None:
        self._max_error_length = max_error_length
        self._session = LaneSession(engine, OutboxMetrics(service_name), clock=clock, idle_limit_s=idle_limit_s)
        self._gate = gate
        self._fetches = {
            held: statements.fetch_statement(before_cutoff=gate is not None, topics_held=held) for held in (False, True)
        }

    @property
    def shared(self) -> bool:
        """Whether another relay owns some of the lanes, or a running writer holds events back."""
        return len(self._session.lanes) < LANES or (self._gate is not None and self._gate.blocker is not None)

    @property
    def lanes(self) -> frozenset[int]:
        """The lanes that this relay owns."""
        return frozenset(self._session.lanes)

    async def fetch(
        self,
        *,
        limit: int,
        max_retries: int,
        held_keys: Collection[str],
        held_topics: Collection[str],
        in_flight: Sequence[OutboxEvent] = (),
    ) -> Sequence[OutboxEvent]:
        """The oldest unpublished events of the relay's lanes; see `OutboxBatchStore`.

        Raises:
            LanesLostError: The session has ended, while events of it were under way or while it looked for lanes.
        """
        if not self._session.is_open:
            if in_flight:  # another relay may be sending them by now, and what follows them
                raise LanesLostError
            await self._session.open(None if self._gate is None else require_strict_order)
            await self._report_exhausted(max_retries)
        await self._session.balance(in_flight=bool(in_flight))
        if not self._session.lanes:
            return []
        parameters: dict[str, Any] = {
            "max_retries": max_retries,
            "all_lanes": len(self._session.lanes) == LANES,
            "lanes": sorted(self._session.lanes),
            "held_keys": list(held_keys),
            "held_topics": list(held_topics),
            "in_flight": [event.id for event in in_flight],
            "limit": limit,
        }
        if self._gate is not None:
            ask = partial(self._gate.cutoff, space=self._session.lock_space, membership=MEMBERSHIP)
            parameters["cutoff"] = await self._session.run(ask)
            if parameters["cutoff"] is None:
                return []
        return await self._read(parameters)

    async def _read(self, parameters: Mapping[str, Any]) -> list[Row]:
        fetch = self._fetches[bool(parameters["held_topics"])]
        return [Row._make(row) for row in await self._session.execute(fetch, parameters)]

    async def settle(
        self, *, published: Sequence[OutboxEvent], failed: Sequence[FailedEvent], max_retries: int
    ) -> Sequence[OutboxEvent]:
        """Store the results of a batch; see `OutboxBatchStore`.

        Raises:
            LanesLostError: The session has ended meanwhile; nothing is stored, and another relay sends the events again.
        """
        if not self._session.is_open:
            raise LanesLostError
        if published:
            await self._session.execute(statements.COMPLETE, {"ids": [event.id for event in published]})
        if not failed:
            return []
        result = await self._session.execute(
            statements.FAIL,
            {
                "ids": [one.event.id for one in failed],
                "errors": [_storable(one.error) for one in failed],
                "max_retries": max_retries,
                "length": self._max_error_length,
            },
        )
        parked = {row.id for row in result if row.retry_count >= max_retries}
        return [one.event for one in failed if one.event.id in parked]

    async def depth(self, *, max_retries: int) -> int | None:
        """How many events of all lanes wait."""
        if not self._session.is_open:
            return None
        return int((await self._session.execute(statements.DEPTH, {"max_retries": max_retries})).scalar() or 0)

    async def close(self) -> None:
        """Let the lanes go; the next relay may take them at once."""
        await self._session.close()

    async def _report_exhausted(self, max_retries: int) -> None:
        """Say of rows that somebody else has used up that they are parked; this relay never sees them."""
        result = await self._session.execute(
            statements.REPORT_EXHAUSTED, {"max_retries": max_retries, "length": self._max_error_length}
        )
        rows = result.scalars().all()
        if rows:
            logger.warning("outbox_events_found_exhausted", count=len(rows), first=str(rows[0]))


def _storable(error: str) -> str:
    return error.replace("\x00", "")  # PostgreSQL text holds no NUL
