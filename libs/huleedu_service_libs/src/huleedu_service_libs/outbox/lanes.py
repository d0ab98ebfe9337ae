"""The relay's batches from PostgreSQL, shared among any number of relays by lanes.

The keys are hashed into `LANES` lanes. A relay owns a lane while its database
session holds the lane's advisory lock; that same session reads the batches and
stores their results, so that a relay that has lost its session (and with it its
lanes) can complete nothing. Every relay also holds a shared lock that only
counts heads: each takes its fair share of the lanes, lets go what is too much when
another one comes, and takes over what a dead one leaves as soon as the server
has closed its session.

Needs a session for itself: behind PgBouncer it must be in session mode. Knows
nothing of Kafka.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.types import DateTime, Integer, Text, Uuid

from huleedu_service_libs import _clock
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.writers import WriterGate, require_strict_order

__all__ = ["LANES", "LOCK_SPACE", "MEMBERSHIP", "PostgreSQLBatchStore"]

LANES = 64  # a power of two; the most relays that can share the work
REBALANCE_SECONDS = 1.0  # how often a relay counts the others
STATEMENT_TIMEOUT_SECONDS = 30.0  # a session that answers nothing for so long is given up
CLOSE_TIMEOUT_SECONDS = 5.0
MEMBERSHIP = 1_000_000  # the lock that every relay holds in shared mode, beyond all lanes

logger = create_service_logger("huleedu.outbox.lanes")

# Advisory locks belong to a database; the schema's name keeps two outboxes of one database apart.
# By name rather than by oid: a table that is dropped and made again keeps its space.
LOCK_SPACE = text(
    "SELECT (hashtext(nspname || '.event_outbox')::bigint & 2147483647)::int FROM pg_class"
    " JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE pg_class.oid = 'event_outbox'::regclass"
)
# The planner takes a share of the lanes for a few rows and would rather sort the whole backlog at every
# batch than walk the index in order. This session runs nothing else, so it may be told.
_PLAN_FOR_ORDER = text("SET enable_sort = off")
# The server ends the session of a relay whose host has vanished within half a minute; by default after two hours.
_NOTICE_DEATH = (
    text("SET tcp_keepalives_idle = 10"),
    text("SET tcp_keepalives_interval = 5"),
    text("SET tcp_keepalives_count = 3"),
    text("SET tcp_user_timeout = 25000"),
)
_JOIN = text("SELECT pg_advisory_lock_shared(:space, :membership)")
_COUNT_RELAYS = text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND classid::bigint = :space AND objid::bigint = :membership"
)
# The LIMIT ends the scan as soon as enough locks are won; no further one is taken.
_ACQUIRE = text(
    "SELECT lane FROM unnest(:candidates) AS lane WHERE pg_try_advisory_lock(:space, lane) LIMIT :wanted"
).bindparams(bindparam("candidates", type_=ARRAY(Integer)))
_RELEASE = text("SELECT pg_advisory_unlock(:space, lane) FROM unnest(:lanes) AS lane").bindparams(
    bindparam("lanes", type_=ARRAY(Integer))
)

_KEY = "coalesce(nullif(event_key, ''), aggregate_id)"
# published_at leads the order, so that the partial index (published_at, created_at) serves it.
# A time without zone is read in the session's zone, as it was written. The order names the column, not that result.
_SELECT_SQL = (
    "SELECT id, aggregate_id, aggregate_type, event_type, event_data::text, event_key, topic, created_at::timestamptz,"  # noqa: S608  # constants only
    " published_at, coalesce(retry_count, 0), last_error"
    " FROM event_outbox WHERE published_at IS NULL AND coalesce(retry_count, 0) < :max_retries"
    f" AND (:all_lanes OR (hashtextextended({_KEY}, 0) & {LANES - 1})::int = ANY(:lanes))"
    f" AND {_KEY} <> ALL(:held_keys) AND topic <> ALL(:held_topics)"
)
_ORDER_SQL = " ORDER BY event_outbox.published_at, event_outbox.created_at, event_outbox.id LIMIT :limit"
_FETCH_SQL = _SELECT_SQL + _ORDER_SQL
_FETCH = (
    text(_FETCH_SQL)
    .bindparams(
        bindparam("lanes", type_=ARRAY(Integer)),
        bindparam("held_keys", type_=ARRAY(Text)),
        bindparam("held_topics", type_=ARRAY(Text)),
    )
    .columns(id=Uuid)
)
_FETCH_BEFORE = (
    text(_SELECT_SQL + " AND event_outbox.created_at < :cutoff" + _ORDER_SQL)
    .bindparams(
        bindparam("lanes", type_=ARRAY(Integer)),
        bindparam("held_keys", type_=ARRAY(Text)),
        bindparam("held_topics", type_=ARRAY(Text)),
        bindparam("cutoff", type_=DateTime(timezone=True)),
    )
    .columns(id=Uuid)
)
_COMPLETE = text(
    "UPDATE event_outbox SET published_at = now() WHERE id = ANY(:ids) AND published_at IS NULL"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
_FAIL = (
    text(
        "UPDATE event_outbox SET retry_count = coalesce(retry_count, 0) + 1, last_error = CASE"
        " WHEN coalesce(retry_count, 0) + 1 >= :max_retries THEN left('Exceeded max retries (' || :max_retries || '): ' || f.error, :length)"
        " ELSE left(f.error, :length) END"
        " FROM unnest(:ids, :errors) AS f(id, error)"
        " WHERE event_outbox.id = f.id AND published_at IS NULL"
        " RETURNING event_outbox.id, retry_count"
    )
    .bindparams(bindparam("ids", type_=ARRAY(Uuid)), bindparam("errors", type_=ARRAY(Text)))
    .columns(id=Uuid)
)
_REPORT_EXHAUSTED = text(
    "UPDATE event_outbox SET last_error = left('Exceeded max retries (' || :max_retries || '): '"
    " || coalesce(last_error, 'no error stored'), :length)"
    " WHERE id IN (SELECT id FROM event_outbox WHERE published_at IS NULL AND retry_count >= :max_retries"
    " AND coalesce(last_error, '') NOT LIKE 'Exceeded max retries%' FOR UPDATE SKIP LOCKED) RETURNING id"
)
_DEPTH = text("SELECT count(*) FROM event_outbox WHERE published_at IS NULL AND retry_count < :max_retries")


@dataclass(frozen=True)
class Row:
    """A row of a batch; see `OutboxEvent`."""

    id: UUID
    aggregate_id: str
    aggregate_type: str
    event_type: str
    stored_text: str
    event_key: str | None
    topic: str
    created_at: datetime
    published_at: datetime | None
    retry_count: int
    last_error: str | None

    @cached_property
    def event_data(self) -> dict[str, Any]:
        """The stored payload, decoded when it is asked for: one that cannot be is the fault of its row alone."""
        payload: dict[str, Any] = json.loads(self.stored_text)
        return payload


class PostgreSQLBatchStore:
    """A relay's share of the outbox.

    Args:
        engine: One of its connections is held while the relay runs.
        service_name: Label of the metrics.
        max_error_length: Characters of an error that are stored.
        gate: Where order is strict: says how far may be read.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        service_name: str,
        max_error_length: int,
        gate: WriterGate | None = None,
        clock: _clock.Clock = _clock.monotonic,
    ) -> None:
        self._engine = engine
        self._metrics = OutboxMetrics(service_name)
        self._max_error_length = max_error_length
        self._gate = gate
        self._clock = clock
        self._connection: AsyncConnection | None = None
        self._lock_space = 0
        self._lanes: set[int] = set()
        self._next_rebalance = 0.0

    @property
    def shared(self) -> bool:
        """Whether another relay owns some of the lanes, or a running writer holds events back."""
        return len(self._lanes) < LANES or (self._gate is not None and self._gate.blocker is not None)

    @property
    def lanes(self) -> frozenset[int]:
        """The lanes that this relay owns."""
        return frozenset(self._lanes)

    async def fetch(
        self, *, limit: int, max_retries: int, held_keys: Collection[str], held_topics: Collection[str]
    ) -> Sequence[OutboxEvent]:
        """The oldest unpublished events of the relay's lanes; see `OutboxBatchStore`."""
        async with self._guarded():
            connection = await self._owned_connection(max_retries)
            if not self._lanes:
                return []
            parameters: dict[str, Any] = {
                "max_retries": max_retries,
                "all_lanes": len(self._lanes) == LANES,
                "lanes": sorted(self._lanes),
                "held_keys": list(held_keys),
                "held_topics": list(held_topics),
                "limit": limit,
            }
            if self._gate is None:
                return [Row(*row) for row in await connection.execute(_FETCH, parameters)]
            cutoff = await self._gate.cutoff(connection, space=self._lock_space, membership=MEMBERSHIP)
            if cutoff is None:
                return []
            return [Row(*row) for row in await connection.execute(_FETCH_BEFORE, parameters | {"cutoff": cutoff})]

    async def settle(
        self, *, published: Sequence[OutboxEvent], failed: Sequence[FailedEvent], max_retries: int
    ) -> Sequence[OutboxEvent]:
        """Store the results of a batch; see `OutboxBatchStore`."""
        if self._connection is None:
            raise LanesLostError("The relay's database session is gone, and with it its lanes: nothing is completed")
        async with self._guarded():
            if published:
                await self._connection.execute(_COMPLETE, {"ids": [event.id for event in published]})
            if not failed:
                return []
            result = await self._connection.execute(
                _FAIL,
                {
                    "ids": [one.event.id for one in failed],
                    "errors": [_storable(one.error) for one in failed],
                    "max_retries": max_retries,
                    "length": self._max_error_length,
                },
            )
            parked = {row_id for row_id, attempts in result if attempts >= max_retries}
            return [one.event for one in failed if one.event.id in parked]

    async def depth(self, *, max_retries: int) -> int | None:
        """How many events of all lanes wait."""
        if self._connection is None:
            return None
        async with self._guarded():
            return int(await self._connection.scalar(_DEPTH, {"max_retries": max_retries}) or 0)

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Limit the time of what is done on the session, and give the session up when it fails."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                yield
        except BaseException:
            await self._abandon()
            raise

    async def close(self) -> None:
        """Let the lanes go; the next relay may take them at once."""
        await self._abandon()

    async def _owned_connection(self, max_retries: int) -> AsyncConnection:
        """The session that owns the lanes, opened and balanced when it is time."""
        if self._connection is None:
            self._connection = await self._join()
            await self._report_exhausted(self._connection, max_retries)
        if self._clock() >= self._next_rebalance:
            await self._rebalance(self._connection)
            self._next_rebalance = self._clock() + REBALANCE_SECONDS
        return self._connection

    async def _join(self) -> AsyncConnection:
        connection = await self._engine.connect()
        try:
            # Every statement is a transaction of its own: none stays open while Kafka is awaited.
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for setting in (_PLAN_FOR_ORDER, *_NOTICE_DEATH):
                await connection.execute(setting)
            self._lock_space = int(await connection.scalar(LOCK_SPACE) or 0)
            if self._gate is not None:
                await require_strict_order(connection)
            await connection.execute(_JOIN, {"space": self._lock_space, "membership": MEMBERSHIP})
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise
        self._next_rebalance = 0.0
        return connection

    async def _report_exhausted(self, connection: AsyncConnection, max_retries: int) -> None:
        """Say of rows that somebody else has used up that they are parked; this relay never sees them."""
        result = await connection.execute(
            _REPORT_EXHAUSTED, {"max_retries": max_retries, "length": self._max_error_length}
        )
        rows = result.scalars().all()
        if rows:
            logger.warning("outbox_events_found_exhausted", count=len(rows), first=str(rows[0]))

    async def _rebalance(self, connection: AsyncConnection) -> None:
        relays = await connection.scalar(_COUNT_RELAYS, {"space": self._lock_space, "membership": MEMBERSHIP})
        share = -(-LANES // max(1, int(relays or 1)))
        before = len(self._lanes)
        if before > share:
            surplus = sorted(self._lanes)[share:]
            await connection.execute(_RELEASE, {"space": self._lock_space, "lanes": surplus})
            self._lanes.difference_update(surplus)
        elif before < share:
            candidates = [lane for lane in range(LANES) if lane not in self._lanes]
            won = await connection.execute(
                _ACQUIRE, {"space": self._lock_space, "candidates": candidates, "wanted": share - before}
            )
            self._lanes.update(won.scalars())
        if len(self._lanes) != before:
            logger.info("outbox_lanes_changed", lanes=len(self._lanes), of=LANES, relays=relays)

    async def _abandon(self) -> None:
        """Close the session for good: a pooled connection would keep its advisory locks."""
        connection, self._connection = self._connection, None
        self._lanes.clear()
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.invalidate()
                await connection.close()
        except Exception as error:  # noqa: BLE001  # the session is given up, its end needs no more of us
            self._metrics.increment_errors("session_close")
            logger.warning("outbox_session_close_failed", error=str(error))


class LanesLostError(ConnectionError):
    """The session that owned the lanes has ended; the events will be sent again by whoever owns them now."""


def _storable(error: str) -> str:
    return error.replace("\x00", "")  # PostgreSQL text holds no NUL
