"""How the outbox is: what waits, what is parked, who works on it, who stands in its way.

Seen from the table and its locks, so it is the same whichever process asks, and
true also where no relay runs at all. Health endpoints, the console and the
command line show it; `maintenance` turns it into metrics.
"""

from dataclasses import asdict, dataclass
from math import inf
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs.outbox.monitoring import OutboxTableMetrics
from huleedu_service_libs.outbox.sessions import bounded
from huleedu_service_libs.outbox.settings import MAX_RETRIES
from huleedu_service_libs.outbox.statements import LANES, LOCK_SPACE, MEMBERSHIP
from huleedu_service_libs.outbox.writers import Writer, read_writers

__all__ = ["OutboxStatus", "StatusLimits", "measure_status", "read_status"]

MANY_PARKED = 10_000  # from which on they slow each look of a relay down
MOST_COUNTED = 100_000  # unpublished events that are looked at, the oldest

_UNPUBLISHED = text(
    "SELECT count(*) FILTER (WHERE NOT parked), count(*) FILTER (WHERE parked), count(*),"
    " extract(epoch FROM clock_timestamp() - CAST(min(created_at) FILTER (WHERE NOT parked) AS timestamptz))::float8"
    " FROM (SELECT created_at, coalesce(retry_count, 0) >= :max_retries AS parked FROM event_outbox"
    " WHERE published_at IS NULL ORDER BY published_at, created_at LIMIT :most) AS oldest"
)
_OWNERS = text(
    "SELECT count(*) FILTER (WHERE objid::bigint < :lanes), count(*) FILTER (WHERE objid::bigint = :membership)"
    " FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 AND classid::bigint = :space"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusLimits:
    """From when on something is worth telling.

    Attributes:
        oldest_age_s: Age of the oldest waiting event.
        writer_age_s: Age of a transaction that has written the outbox and still runs; as `OutboxSettings.strict_order_limit_seconds`.
        strict_order: Whether such a writer holds events back (see `OutboxSettings.strict_order`).
    """

    oldest_age_s: float = 60.0
    writer_age_s: float = 10.0
    strict_order: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """How the outbox is.

    Attributes:
        service: Whose.
        status: ``unhealthy`` when events wait and nobody takes them, ``warning`` when there is a problem, else ``healthy``.
        problems: What is wrong, in sentences.
        waiting: Events that are neither published nor parked.
        parked: Events that were given up.
        counted_all: False when more than 100 000 are unpublished: the two numbers are of the oldest of them.
        oldest_age_s: Age of the oldest waiting event, 0 when none waits.
        relays: How many relays are alive.
        lanes_owned: Lanes that some relay owns.
        lanes: How many there are.
        oldest_writer: The running transaction that has written the outbox and began first, if there is one.
    """

    service: str
    status: Literal["healthy", "warning", "unhealthy"]
    problems: tuple[str, ...]
    waiting: int
    parked: int
    counted_all: bool
    oldest_age_s: float
    relays: int
    lanes_owned: int
    lanes: int
    oldest_writer: Writer | None

    def as_json(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        writer = self.oldest_writer
        shown = None
        if writer is not None:
            started = None if writer.started is None else writer.started.isoformat()
            shown = {**asdict(writer), "started": started}
        return {**asdict(self), "problems": list(self.problems), "oldest_writer": shown}


async def read_status(
    engine: AsyncEngine,
    *,
    service_name: str,
    max_retries: int = MAX_RETRIES,
    limits: StatusLimits | None = None,
    timeout_s: float = 5.0,
) -> OutboxStatus:
    """Look at the table and its locks.

    Args:
        engine: Where the table is.
        service_name: Whose outbox it is.
        max_retries: As in the relay's settings; it says what is parked.
        limits: From when on something is worth telling.
        timeout_s: For each statement. Half of what schema, bloat and purge have: a page or a probe waits for it.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: It is out of reach, or the table is unfit.
    """
    bounds = limits or StatusLimits()
    async with bounded(engine, timeout_s) as connection:
        waiting, parked, counted, age = (
            await connection.execute(_UNPUBLISHED, {"max_retries": max(1, max_retries), "most": MOST_COUNTED + 1})
        ).one()
        space = int(await connection.scalar(LOCK_SPACE) or 0)
        owned, relays = await _owners(connection, space)
        _, writers = await read_writers(connection, space=space, membership=MEMBERSHIP)
    oldest = max(writers, key=_age_of, default=None)
    age = max(0.0, age or 0.0)
    problems = _problems(
        bounds, waiting=waiting, parked=parked, age=age, relays=relays, writer=oldest, max_retries=max(1, max_retries)
    )
    if counted > MOST_COUNTED:
        problems.append(
            f"more than {MOST_COUNTED} events are unpublished: waiting and parked count the oldest of them only"
        )
    stalled = waiting > 0 and relays == 0
    return OutboxStatus(
        service=service_name,
        status="unhealthy" if stalled else "warning" if problems else "healthy",
        problems=tuple(problems),
        waiting=waiting,
        parked=parked,
        counted_all=counted <= MOST_COUNTED,
        oldest_age_s=age,
        relays=relays,
        lanes_owned=owned,
        lanes=LANES,
        oldest_writer=oldest,
    )


def measure_status(status: OutboxStatus) -> None:
    """Set the gauges of the table."""
    metrics = OutboxTableMetrics(status.service)
    metrics.set_parked(status.parked)
    metrics.set_oldest_age(status.oldest_age_s)
    metrics.set_owners(lanes=status.lanes_owned, relays=status.relays)


async def _owners(connection: AsyncConnection, space: int) -> tuple[int, int]:
    row = (await connection.execute(_OWNERS, {"space": space, "lanes": LANES, "membership": MEMBERSHIP})).one()
    return int(row[0]), int(row[1])


def _problems(
    limits: StatusLimits,
    *,
    waiting: int,
    parked: int,
    age: float,
    relays: int,
    writer: Writer | None,
    max_retries: int,
) -> list[str]:
    told = []
    if waiting and not relays:
        told.append(
            f"waiting events: {waiting}, and no relay is alive: start EventRelayWorker in the service's lifecycle"
        )
    elif waiting and age > limits.oldest_age_s:
        told.append(
            f"the oldest of {waiting} waiting events is {age:.0f} s old (limit {limits.oldest_age_s:.0f} s):"
            " see outbox_broker_outage, outbox_partition_outage and outbox_event_failed in the relay's log"
        )
    if parked:
        told.append(f"parked events: {parked}; list them with their cause, then redrive them")
    if parked > MANY_PARKED:
        told.append(
            f"each batch looks past {parked} parked events: redrive or delete them, or let the looks leave them out with"
            " CREATE INDEX CONCURRENTLY ix_event_outbox_ready ON event_outbox (published_at, created_at)"
            f" WHERE published_at IS NULL AND coalesce(retry_count, 0) < {max_retries}; once it is there this is no trouble"
        )
    if limits.strict_order and writer is not None and _held_for(writer, age) > limits.writer_age_s:
        told.append(f"strict order: nothing younger leaves before this has ended: {writer}")
    return told


def _age_of(writer: Writer) -> float:
    return inf if writer.age_seconds is None else writer.age_seconds


def _held_for(writer: Writer, oldest_waiting: float) -> float:
    """Its age; of one whose start is unknown (prepared, or hidden from this role) that of what waits."""
    return oldest_waiting if writer.age_seconds is None else writer.age_seconds
