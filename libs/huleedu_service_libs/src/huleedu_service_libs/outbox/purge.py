"""Retention: published events are deleted some time after the broker had them.

No index helps to find them (it would cost every event a write), so a pass
walks the table once, a range of pages at a time, and deletes what is old enough
there. Each range is a short transaction of its own. Unpublished and parked
events have no ``published_at`` and are never looked at.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs._checks import within
from huleedu_service_libs.outbox.monitoring import OutboxTableMetrics
from huleedu_service_libs.outbox.sessions import bounded
from huleedu_service_libs.outbox.statements import LOCK_SPACE, MEMBERSHIP

__all__ = ["OutboxPurgeError", "PurgeLimits", "PurgeResult", "purge"]

_PURGING = MEMBERSHIP + 1  # the lock of whoever purges, beyond lanes and membership

_PAGES = text(
    "SELECT relkind::text, pg_relation_size(oid) / current_setting('block_size')::int"
    " FROM pg_class WHERE oid = 'event_outbox'::regclass"
)
_ALONE = text("SELECT pg_try_advisory_xact_lock(:space, :purging)")
# Rows that somebody has locked are passed over; the next pass finds them. now() is one moment for the transaction.
_DELETE = text(
    "DELETE FROM event_outbox WHERE ctid = ANY(ARRAY(SELECT ctid FROM event_outbox"
    " WHERE ctid >= CAST(:first AS text)::tid AND ctid < CAST(:behind AS text)::tid"
    " AND published_at < now() - make_interval(secs => :retention)"
    " LIMIT :most FOR UPDATE SKIP LOCKED))"
)


class OutboxPurgeError(RuntimeError):
    """This table cannot be purged row by row; the text says what to do instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeLimits:
    """How gently.

    Attributes:
        pages_per_batch: Pages of 8 kB that one transaction reads, from 1 to 10 000.
        events_per_batch: Most that it deletes, from 1 to 10 000.
        batches_per_second: From 0.01 to 1 000.
        timeout_s: For each statement.

    Raises:
        ValueError: A value is out of its range.
    """

    pages_per_batch: int = 128
    events_per_batch: int = 1000
    batches_per_second: float = 20.0
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        within(
            self,
            pages_per_batch=(1, 10_000),
            events_per_batch=(1, 10_000),
            batches_per_second=(0.01, 1000.0),
            timeout_s=(0.1, 600.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeResult:
    """What a pass has done.

    Attributes:
        deleted: Events.
        complete: Whether the whole table was walked; not when somebody else was purging.
    """

    deleted: int
    complete: bool


async def purge(
    engine: AsyncEngine,
    *,
    retention_seconds: float,
    service_name: str = "unknown",
    limits: PurgeLimits | None = None,
    sleep: _clock.Sleep = _clock.sleep,
) -> PurgeResult:
    """Walk the table once and delete the events that were published longer ago than ``retention_seconds``.

    Any number may run: at any moment one of them deletes, the others end early.

    Args:
        engine: Where the table is.
        retention_seconds: Age since the acknowledgement, on the database's clock; 0 keeps nothing.
        service_name: Label of the metric.
        limits: How gently.
        sleep: Waits between batches.

    Raises:
        ValueError: The retention is negative.
        OutboxPurgeError: The table is partitioned.
        TimeoutError: All of one transaction took too long.
        sqlalchemy.exc.SQLAlchemyError: The database is out of reach, or a statement took too long; what was
            deleted before stays so.
    """
    if not retention_seconds >= 0:
        raise ValueError(f"retention_seconds must be 0 or more, is {retention_seconds!r}")
    bounds = limits or PurgeLimits()
    metrics = OutboxTableMetrics(service_name)
    async with bounded(engine, bounds.timeout_s) as connection:
        space, pages = await _extent(connection)
    deleted, page = 0, 0
    while page < pages:
        if page or deleted:
            await sleep(1.0 / bounds.batches_per_second)
        async with bounded(engine, bounds.timeout_s) as connection:
            if not await connection.scalar(_ALONE, {"space": space, "purging": _PURGING}):
                return PurgeResult(deleted=deleted, complete=False)
            count = await _delete(connection, page, bounds, retention_seconds)
        metrics.increment_purged(count)
        deleted += count
        if count < bounds.events_per_batch:  # else more may be left in these pages
            page += bounds.pages_per_batch
    return PurgeResult(deleted=deleted, complete=True)


async def _extent(connection: AsyncConnection) -> tuple[int, int]:
    """First number of the locks, and the pages of the table."""
    kind, pages = (await connection.execute(_PAGES)).one()
    if kind != "r":
        raise OutboxPurgeError(
            f"event_outbox is no plain table (relkind {kind!r}): of a partitioned one, drop old partitions instead,"
            " after moving out what is unpublished"
        )
    return int(await connection.scalar(LOCK_SPACE) or 0), int(pages)


async def _delete(connection: AsyncConnection, page: int, bounds: PurgeLimits, retention_seconds: float) -> int:
    result = await connection.execute(
        _DELETE,
        {
            "first": f"({page},0)",
            "behind": f"({page + bounds.pages_per_batch},0)",
            "retention": float(retention_seconds),
            "most": bounds.events_per_batch,
        },
    )
    return int(result.rowcount)
