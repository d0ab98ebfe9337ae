"""Redrive: parked events get new attempts, in their old place or at the end of their key.

*In place* keeps the place: the attempts start at zero, ``created_at`` stays. An
event leaves before all of its key that still wait, but behind those that have
left meanwhile. *Appended* moves events to the end of their key, in their order
among each other.

`plan` is the dry run; `Redrive.run` does what the plan says, batch by batch.
Needs nothing of the relay: it finds the events at its next look.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs.outbox.audit import AuditRecord, audit_table_exists, log_record, store_record
from huleedu_service_libs.outbox.monitoring import OutboxTableMetrics
from huleedu_service_libs.outbox.parked import KEY_SQL, PARKED_SQL, ParkedEvent, Selection, read_parked
from huleedu_service_libs.outbox.sessions import bounded

__all__ = ["Mode", "RedriveLimits", "RedrivePlan", "RedriveResult", "plan_redrive", "redrive"]

Mode = Literal["in-place", "appended"]

MOST_EVENTS = 10_000  # of one run; their ids are held in memory
_MOST_BATCH = 1000
_MOST_RATE = 50.0  # batches a second

_OVERTAKEN = text(
    f"SELECT p.key, count(*) FROM (SELECT {KEY_SQL} AS key, created_at, id FROM event_outbox"  # noqa: S608  # constants only
    " WHERE published_at IS NOT NULL) AS p"
    " JOIN unnest(:keys, :ids) AS f(key, id) ON f.key = p.key JOIN event_outbox AS e ON e.id = f.id"
    " WHERE (p.created_at, p.id) > (e.created_at, e.id) GROUP BY p.key ORDER BY p.key"
).bindparams(bindparam("keys", type_=ARRAY(Text)), bindparam("ids", type_=ARRAY(Uuid)))

_LOCK = (
    text(
        f"SELECT id FROM event_outbox WHERE id = ANY(:ids) AND {PARKED_SQL}"  # noqa: S608  # constants only
        " ORDER BY created_at, id FOR UPDATE SKIP LOCKED"
    )
    .bindparams(bindparam("ids", type_=ARRAY(Uuid)))
    .columns(id=Uuid)
)
_NOTE = "left(:note || coalesce(last_error, 'no error stored'), 1000)"
_IN_PLACE = text(
    f"UPDATE event_outbox SET retry_count = 0, last_error = {_NOTE} WHERE id = ANY(:ids)"  # noqa: S608  # constants only
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))
# One reading of the clock for the batch, and a microsecond more for each event: they keep their order.
_APPENDED = text(
    "WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS moment)"  # noqa: S608  # constants only
    f" UPDATE event_outbox SET retry_count = 0, last_error = {_NOTE},"
    " created_at = moment + place * interval '1 microsecond'"
    " FROM unnest(:ids) WITH ORDINALITY AS moved(moved_id, place), clock WHERE event_outbox.id = moved_id"
).bindparams(bindparam("ids", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveLimits:
    """How fast, and how much at most.

    Attributes:
        most_events: Of one run, the oldest; 10 000 at most.
        batch_size: Events of one transaction; 1 000 at most.
        batches_per_second: More than 0, 50 at most: what was parked may fail again, and the broker is in use.
        timeout_seconds: For each statement.

    Raises:
        ValueError: A value is out of its range.
    """

    most_events: int = MOST_EVENTS
    batch_size: int = 100
    batches_per_second: float = 5.0
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        ranges = {
            "most_events": (1, MOST_EVENTS),
            "batch_size": (1, _MOST_BATCH),
            "batches_per_second": (0.01, _MOST_RATE),
            "timeout_seconds": (0.1, 600.0),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(f"RedriveLimits.{name} must be from {least} to {most}, is {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedrivePlan:
    """What a redrive would move.

    Attributes:
        mode: In place or appended.
        selection: As asked for.
        events: Those that would move, in order.
        by_key: How many of each key.
        by_type: How many of each event type.
        overtaken: Keys of which later events have left already, with their number.
        warnings: What to know before it is done.
    """

    mode: Mode
    selection: Selection
    events: tuple[ParkedEvent, ...]
    by_key: dict[str, int]
    by_type: dict[str, int]
    overtaken: dict[str, int]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """The plan for a command's output, without the single events."""
        return {
            "mode": self.mode,
            "selection": self.selection.as_json(),
            "count": len(self.events),
            "by_key": self.by_key,
            "by_type": self.by_type,
            "overtaken": self.overtaken,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveResult:
    """What a redrive has moved.

    Attributes:
        run: Identity of the run in log and audit table.
        moved: Ids, in the order in which they were moved.
        skipped: Planned events that were no longer parked, or in somebody else's hands.
        audited_in: Where the record is: ``outbox_audit``, or ``log and last_error``.
    """

    run: UUID
    moved: tuple[UUID, ...]
    skipped: int
    audited_in: str


async def plan_redrive(
    engine: AsyncEngine,
    selection: Selection,
    *,
    mode: Mode,
    max_retries: int = 5,
    limits: RedriveLimits | None = None,
) -> RedrivePlan:
    """The dry run: what would move, and what to know about it. Changes nothing.

    Args:
        engine: Where the table is.
        selection: Which parked events.
        mode: ``in-place`` or ``appended``.
        max_retries: As in the relay's settings; it says what is parked.
        limits: How much at most.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database is out of reach, or a statement took too long.
    """
    bounds = limits or RedriveLimits()
    async with bounded(engine, bounds.timeout_seconds) as connection:
        events = await read_parked(connection, selection, max_retries=max_retries, limit=bounds.most_events + 1)
        more, events = len(events) > bounds.most_events, events[: bounds.most_events]
        overtaken = await _overtaken(connection, events)
    return RedrivePlan(
        mode=mode,
        selection=selection,
        events=tuple(events),
        by_key=dict(Counter(one.key for one in events).most_common()),
        by_type=dict(Counter(one.event_type for one in events).most_common()),
        overtaken=overtaken,
        warnings=tuple(_warnings(mode, overtaken, more=more, bounds=bounds)),
    )


async def redrive(
    engine: AsyncEngine,
    selection: Selection,
    *,
    mode: Mode,
    actor: str,
    reason: str,
    service_name: str = "unknown",
    max_retries: int = 5,
    limits: RedriveLimits | None = None,
    sleep: _clock.Sleep = _clock.sleep,
) -> RedriveResult:
    """Give the selected parked events new attempts.

    Each batch is a transaction, so a run that is broken off has moved whole batches, and its record says how many. Events
    that park again meanwhile are not moved twice. Several runs at once do not meet in one event.

    Args:
        engine: Where the table is.
        selection: Which parked events.
        mode: ``in-place`` or ``appended``.
        actor: Who asks for it.
        reason: Why.
        service_name: Label of the metric, and of the log line.
        max_retries: As in the relay's settings.
        limits: How fast, and how much at most.
        sleep: Waits between batches.

    Raises:
        ValueError: Nobody is named, or no reason is given.
        sqlalchemy.exc.SQLAlchemyError: The database is out of reach, or a statement took too long.
    """
    record = AuditRecord(action=f"redrive:{mode}", actor=actor, reason=reason, selection=selection.as_json())
    bounds = limits or RedriveLimits()
    run = _Run(engine, record, mode, max_retries, bounds)
    metrics = OutboxTableMetrics(service_name)
    complete = False
    try:
        async with bounded(engine, bounds.timeout_seconds) as connection:
            run.audited = await audit_table_exists(connection)
            events = await read_parked(connection, selection, max_retries=max_retries, limit=bounds.most_events)
        for start in range(0, len(events), bounds.batch_size):
            if start:
                await sleep(1.0 / bounds.batches_per_second)
            count = await run.batch([one.id for one in events[start : start + bounds.batch_size]])
            metrics.increment_redriven(count, mode)
        complete = True
    finally:
        log_record(record, count=len(run.moved), service=service_name, stored=run.audited, complete=complete)
    return RedriveResult(
        run=record.id,
        moved=tuple(run.moved),
        skipped=len(events) - len(run.moved),
        audited_in="outbox_audit" if run.audited else "log and last_error",
    )


class _Run:
    """The batches of one redrive."""

    def __init__(
        self, engine: AsyncEngine, record: AuditRecord, mode: Mode, max_retries: int, bounds: RedriveLimits
    ) -> None:
        self._engine = engine
        self._record = record
        self._statement = _IN_PLACE if mode == "in-place" else _APPENDED
        self._max_retries = max_retries
        self._bounds = bounds
        self._note = f"Redriven {mode} by {record.actor}: {record.reason} | before: ".replace("\x00", "")
        self.audited = False
        self.moved: list[UUID] = []

    async def batch(self, ids: Sequence[UUID]) -> int:
        """Move those of ``ids`` that are still parked, and free; how many."""
        async with bounded(self._engine, self._bounds.timeout_seconds) as connection:
            found = await connection.execute(_LOCK, {"ids": list(ids), "max_retries": self._max_retries})
            moved: list[UUID] = list(found.scalars())
            if moved:
                await connection.execute(self._statement, {"ids": moved, "note": self._note})
            if moved and self.audited:
                await store_record(connection, self._record, len(moved))
        self.moved.extend(moved)
        return len(moved)


async def _overtaken(connection: AsyncConnection, events: Sequence[ParkedEvent]) -> dict[str, int]:
    """Keys of which later events have left, with their number, told from each key's first parked event on."""
    first: dict[str, UUID] = {}
    for one in events:
        first.setdefault(one.key, one.id)
    if not first:
        return {}
    rows = await connection.execute(_OVERTAKEN, {"keys": list(first), "ids": list(first.values())})
    return {row[0]: row[1] for row in rows}


def _warnings(mode: Mode, overtaken: dict[str, int], *, more: bool, bounds: RedriveLimits) -> list[str]:
    told = []
    if overtaken and mode == "in-place":
        left = sum(overtaken.values())
        told.append(
            f"later events have left already (events: {left}, keys: {len(overtaken)}): in place, the redriven ones arrive behind"
            " them, out of the order of their key. Consumers see the old event last; appended gives them a new place instead"
        )
    if mode == "appended":
        told.append("created_at becomes the time of the redrive; event_id and the stored envelope stay")
    if more:
        told.append(
            f"more are parked than one run moves; the oldest {bounds.most_events} are taken, run again for the rest"
        )
    return told
