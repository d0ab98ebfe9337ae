"""Strict order: nothing younger than the oldest running writer leaves.

Two transactions of one key that do not wait for each other commit in any
order; a relay that takes what it sees sends the later event first. In strict
mode the relay first asks which transactions have written the table and are
still running, and then, in a later statement, takes only rows that were added
before the first of them began.

Why that is a prefix of each key: a writer holds ROW EXCLUSIVE on the table from
before its first row's ``created_at`` (the clock at the INSERT) until after its
commit is visible. The reading asks the server for its clock first and for the
locks afterwards. So a row that is older than that clock belongs to a
transaction that is still in the list (its rows are no older than its own start)
or one that had ended before the reading, which every later statement sees.
Unrelated long transactions hold no such lock and hold nothing back.

What it trusts: ``created_at`` is the database's clock, and that clock is not
set back. `lanes` asks; `status` shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.catalogue import read_table_facts, zone_is_utc
from huleedu_service_libs.outbox.monitoring import OutboxTableMetrics

__all__ = ["SafePoint", "StrictOrderError", "Writer", "WriterGate", "read_writers", "require_strict_order"]

logger = create_service_logger("huleedu.outbox.writers")

# statement_timestamp() is the arrival of the statement, hence earlier than its look at the locks. A relay's own
# sessions update rows and add none; they are known by the lock that each of them holds.
_WRITERS = text(
    "SELECT statement_timestamp(), l.virtualtransaction, l.pid, a.application_name, a.state, a.xact_start"
    " FROM (SELECT 1) AS always LEFT JOIN pg_locks AS l ON l.locktype = 'relation' AND l.granted"
    " AND l.mode = 'RowExclusiveLock' AND l.relation = 'event_outbox'::regclass"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (l.pid IS NULL OR l.pid NOT IN (SELECT r.pid FROM pg_locks AS r WHERE r.locktype = 'advisory'"
    " AND r.pid IS NOT NULL AND r.objsubid = 2 AND r.granted"
    " AND r.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND r.classid::bigint = :space AND r.objid::bigint = :membership))"
    " LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid"
)


class StrictOrderError(RuntimeError):
    """Strict order cannot be promised here; the text says why and what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """A running transaction that has written the outbox.

    Attributes:
        transaction: The server's name for it, as ``3/1742``.
        pid: Process id of its session; ``None`` for a prepared transaction (see ``pg_prepared_xacts``).
        application: ``application_name`` of the session, empty when unknown.
        state: As in ``pg_stat_activity``; ``idle in transaction`` waits for its client.
        started: When it began, ``None`` when this role may not see that (or activity is not tracked).
        age_seconds: Since then, at the reading; ``None`` with ``started``.
    """

    transaction: str
    pid: int | None
    application: str
    state: str
    started: datetime | None
    age_seconds: float | None

    def __str__(self) -> str:
        if self.pid is None:
            return (
                f"a prepared transaction ({self.transaction}): find its gid in pg_prepared_xacts, and end it with"
                " COMMIT PREPARED or ROLLBACK PREPARED"
            )
        age = "an unknown time" if self.age_seconds is None else f"{self.age_seconds:.1f} s"
        return f"pid {self.pid} (application {self.application or 'unnamed'!r}, {self.state or 'state unknown'}), running for {age}"


class SafePoint:
    """Up to which moment every row is visible or will never be. Pure; one reading after the other."""

    def __init__(self) -> None:
        self._floors: dict[str, datetime | None] = {}
        self._last: datetime | None = None
        self._reached: datetime | None = None

    def advance(self, now: datetime, writers: Sequence[Writer]) -> tuple[datetime | None, Writer | None]:
        """Take a reading.

        Args:
            now: The server's clock, from before the writers were looked up.
            writers: Who has written and still runs.

        Returns:
            The moment before which everything may leave (``None``: nothing may), and who holds it back.
        """
        set_back = self._last is not None and now < self._last
        floors = {one.transaction: None if set_back else self._floor_of(one, now) for one in writers}
        reached: datetime | None = now
        blocker: Writer | None = None
        for one in writers:
            floor = floors[one.transaction]
            if reached is not None and (floor is None or floor < reached):
                reached, blocker = floor, one
        self._floors, self._last, self._reached = floors, now, reached
        return reached, blocker

    def _floor_of(self, writer: Writer, now: datetime) -> datetime | None:
        """No row of this writer is older; ``None`` when nothing is known."""
        if writer.transaction in self._floors:
            return self._floors[writer.transaction]
        if writer.pid is None:  # prepared, maybe under another name than before: what had been safe still is
            return self._reached
        if writer.started is not None and writer.started <= now:
            return writer.started
        return self._last  # its start is hidden, but at the last reading it had not written


class WriterGate:
    """Tells a relay how far it may read, and who holds it back for too long.

    Args:
        service_name: Label of the metric.
        limit_seconds: Age of a holding writer from which it is told in the log.
    """

    def __init__(self, *, service_name: str, limit_seconds: float) -> None:
        self._metrics = OutboxTableMetrics(service_name)
        self._limit_seconds = limit_seconds
        self._safe = SafePoint()
        self._first_seen: tuple[str, datetime] | None = None
        self._told: str | None = None
        self.blocker: Writer | None = None

    async def cutoff(self, connection: AsyncConnection, *, space: int, membership: int) -> datetime | None:
        """The moment before which everything may leave; ``None`` when nothing may.

        The rows must be read by a later statement.

        Args:
            connection: In autocommit, the relay's own.
            space: First number of the relays' advisory locks.
            membership: Second number of the lock that every relay holds.
        """
        now, writers = await read_writers(connection, space=space, membership=membership)
        moment, self.blocker = self._safe.advance(now, writers)
        self._watch(now)
        return moment

    def _watch(self, now: datetime) -> None:
        held = self._held_seconds(now)
        self._metrics.set_held_by_writer(held)
        if self.blocker is None:
            if self._told is not None:
                logger.info("outbox_writer_ended", transaction=self._told)
            self._told = None
        elif held > self._limit_seconds and self._told != self.blocker.transaction:
            self._told = self.blocker.transaction
            _tell(self.blocker, held)

    def _held_seconds(self, now: datetime) -> float:
        """How long the blocker has been running, or been seen where its start is hidden."""
        if self.blocker is None:
            self._first_seen = None
            return 0.0
        if self._first_seen is None or self._first_seen[0] != self.blocker.transaction:
            self._first_seen = (self.blocker.transaction, now)
        seen = max(0.0, (now - self._first_seen[1]).total_seconds())
        return max(seen, self.blocker.age_seconds or 0.0)


async def read_writers(connection: AsyncConnection, *, space: int, membership: int) -> tuple[datetime, list[Writer]]:
    """The server's clock, and then who has written the outbox and still runs, relays apart."""
    rows = (await connection.execute(_WRITERS, {"space": space, "membership": membership})).all()
    now: datetime = rows[0][0]
    return now, [
        Writer(
            transaction=transaction,
            pid=pid,
            application=application or "",
            state=state or "",
            started=started,
            age_seconds=None if started is None else max(0.0, (now - started).total_seconds()),
        )
        for _, transaction, pid, application, state, started in rows
        if transaction is not None
    ]


async def require_strict_order(connection: AsyncConnection) -> None:
    """Refuse where the table's times cannot be compared with the server's clock.

    Raises:
        StrictOrderError: ``created_at`` has no time zone, and the session's is not UTC.
    """
    facts = await read_table_facts(connection)
    if facts is not None and facts.times_are_naive and not zone_is_utc(facts.time_zone):
        raise StrictOrderError(
            f"strict_order: created_at of event_outbox has no time zone and this session's is {facts.time_zone!r},"
            " so that times repeat when summer time ends. Connect relay and writers with"
            " connect_args={'server_settings': {'timezone': 'UTC'}}, or switch strict_order off"
        )


def _tell(writer: Writer, held: float) -> None:
    logger.warning(
        "outbox_held_by_writer",
        pid=writer.pid,
        application=writer.application,
        state=writer.state,
        transaction=writer.transaction,
        held_seconds=round(held, 1),
        fix=_fix_of(writer),
    )


def _fix_of(writer: Writer) -> str:
    if writer.pid is None:
        return "COMMIT PREPARED or ROLLBACK PREPARED, with the gid that pg_prepared_xacts shows"
    if writer.started is None:
        return "its start is hidden from the relay's role: GRANT pg_read_all_stats to it"
    return "let it commit or roll back; pg_terminate_backend(pid) ends it by force"
