"""The statements on ``event_inbox``: claim one, claim many, compare hashes.

All run in the caller's transaction. Under READ COMMITTED a claim of an event that
another transaction has claimed waits for that transaction on the unique index, and
then sees what became of it; at higher levels PostgreSQL refuses it with a
serialization failure, and the whole transaction has to run again.
"""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ARRAY, LargeBinary, bindparam, text
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs.inbox.events import InboxEvent

__all__ = ["insert_new", "stored_hashes"]

_IDS = ARRAY(PG_UUID(as_uuid=True))

_INSERT = text(
    "INSERT INTO event_inbox (consumer, event_id, payload_hash)"
    " SELECT :consumer, claimed.id, claimed.hash"
    " FROM unnest(CAST(:ids AS uuid[]), CAST(:hashes AS bytea[])) AS claimed(id, hash)"
    " ON CONFLICT DO NOTHING RETURNING event_id"
).bindparams(bindparam("ids", type_=_IDS), bindparam("hashes", type_=ARRAY(LargeBinary)))

_HASHES = text(
    "SELECT event_id, payload_hash FROM event_inbox WHERE consumer = :consumer AND event_id = ANY(CAST(:ids AS uuid[]))"
).bindparams(bindparam("ids", type_=_IDS))


async def insert_new(session: AsyncSession, consumer: str, events: Sequence[InboxEvent]) -> set[UUID]:
    """Insert a row for each event that has none; the ids of these.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refused it or is out of reach.
    """
    # In one order, so that two workers with overlapping batches wait for each other and never in a circle.
    rows = sorted({event.id: event.payload_hash for event in reversed(events)}.items())
    parameters = {"consumer": consumer, "ids": [row[0] for row in rows], "hashes": [row[1] for row in rows]}
    return set((await session.execute(_INSERT, parameters)).scalars())


async def stored_hashes(session: AsyncSession, consumer: str, ids: Sequence[UUID]) -> dict[UUID, bytes | None]:
    """The hashes that were stored with these events."""
    result = await session.execute(_HASHES, {"consumer": consumer, "ids": list(ids)})
    return {row.event_id: row.payload_hash for row in result}
