"""Who moved parked events, when and why.

Always one JSON log line, and a note in ``last_error`` of each event. A record
in the table ``outbox_audit`` too, in the same transaction as the move, where a
migration of the service has made that table (`migration.create_audit_table`).
"""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["AuditRecord", "audit_table_exists", "log_record", "store_record"]

logger = create_service_logger("huleedu.outbox.audit")

_LONGEST_ACTOR = 255  # as the table has it
_EXISTS = text("SELECT to_regclass('outbox_audit') IS NOT NULL")
_STORE = text(
    "INSERT INTO outbox_audit (id, action, actor, reason, selection, event_count)"
    " VALUES (:id, :action, :actor, :reason, CAST(:selection AS json), :count)"
    " ON CONFLICT (id) DO UPDATE SET event_count = outbox_audit.event_count + excluded.event_count"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One run.

    Attributes:
        action: What is done, as ``redrive:in-place``.
        actor: Who asks for it.
        reason: Why.
        selection: What is selected, as JSON values.
        id: Identity of the run.

    Raises:
        ValueError: Nobody is named, or no reason is given.
    """

    action: str
    actor: str
    reason: str
    selection: dict[str, Any]
    id: UUID = field(default_factory=uuid7)

    def __post_init__(self) -> None:
        if not self.actor.strip() or len(self.actor) > _LONGEST_ACTOR:
            raise ValueError(f"actor {self.actor[:50]!r}: name who asks for this, in 1 to {_LONGEST_ACTOR} characters")
        if not self.reason.strip():
            raise ValueError("reason is empty: say why, for those who read the record later")


async def audit_table_exists(connection: AsyncConnection) -> bool:
    """Whether the service has made the optional table."""
    return bool(await connection.scalar(_EXISTS))


async def store_record(connection: AsyncConnection, record: AuditRecord, count: int) -> None:
    """Add ``count`` events to the run's record, in the transaction that moves them."""
    await connection.execute(
        _STORE,
        {
            "id": record.id,
            "action": record.action,
            "actor": record.actor,
            "reason": record.reason.replace("\x00", ""),
            "selection": json.dumps(record.selection, ensure_ascii=False),
            "count": count,
        },
    )


def log_record(record: AuditRecord, *, count: int, service: str, stored: bool, complete: bool) -> None:
    """The line that says what was done, also of a run that was broken off."""
    logger.warning(
        "outbox_audit",
        service=service,
        run=str(record.id),
        action=record.action,
        actor=record.actor,
        reason=record.reason,
        selection=record.selection,
        count=count,
        complete=complete,
        stored_in="outbox_audit" if stored else "log and last_error",
    )
