"""Redrive: parked events get new attempts, in their old place or at the end of their key.

*In place* keeps the place: the attempts start at zero, ``created_at`` stays. An
event leaves before all of its key that still wait, but behind those that have
left meanwhile. *Appended* moves events to the end of their key, in their order
among each other.

Command line and console call it, batch by batch it does what `plan_redrive` has shown (``redrive_plan``).
Needs nothing of the relay: it finds the events at its next look.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs.outbox.audit import AuditRecord, audit_table_exists, log_record, store_record
from huleedu_service_libs.outbox.monitoring import OutboxTableMetrics
from huleedu_service_libs.outbox.parked import PARKED_SQL, Selection, read_parked
from huleedu_service_libs.outbox.redrive_plan import Mode, RedriveLimits, RedrivePlan, plan_redrive
from huleedu_service_libs.outbox.sessions import bounded
from huleedu_service_libs.outbox.settings import MAX_RETRIES

__all__ = ["Mode", "RedriveLimits", "RedrivePlan", "RedriveResult", "plan_redrive", "redrive"]

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

    def as_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return {
            "run": str(self.run),
            "moved": [str(one) for one in self.moved],
            "skipped": self.skipped,
            "audited_in": self.audited_in,
        }


async def redrive(
    engine: AsyncEngine,
    selection: Selection,
    *,
    mode: Mode,
    actor: str,
    reason: str,
    service_name: str = "unknown",
    max_retries: int = MAX_RETRIES,
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
        TimeoutError: All of one transaction took too long.
        sqlalchemy.exc.SQLAlchemyError: The database is out of reach, or a statement took too long.
    """
    record = AuditRecord(action=f"redrive:{mode}", actor=actor, reason=reason, selection=selection.as_json())
    bounds = limits or RedriveLimits()
    run = _Run(engine, record, mode, max_retries, bounds)
    metrics = OutboxTableMetrics(service_name)
    complete = False
    try:
        async with bounded(engine, bounds.timeout_s) as connection:
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
        async with bounded(self._engine, self._bounds.timeout_s) as connection:
            found = await connection.execute(_LOCK, {"ids": list(ids), "max_retries": self._max_retries})
            moved: list[UUID] = list(found.scalars())
            if moved:
                await connection.execute(self._statement, {"ids": moved, "note": self._note})
            if moved and self.audited:
                await store_record(connection, self._record, len(moved))
        self.moved.extend(moved)
        return len(moved)
