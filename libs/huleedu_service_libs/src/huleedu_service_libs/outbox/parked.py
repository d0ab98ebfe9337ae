"""Parked events: those that were given up after their last attempt, with the cause.

Read by the command line, the console and `redrive`. An event is parked when it
is unpublished and has used up ``max_retries`` attempts; nothing else marks it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Text, TextualSelect, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs.outbox.sessions import bounded
from huleedu_service_libs.outbox.settings import MAX_RETRIES
from huleedu_service_libs.outbox.statements import KEY_SQL

__all__ = ["PARKED_SQL", "ParkedEvent", "Selection", "list_parked", "read_parked"]

PARKED_SQL = "published_at IS NULL AND retry_count >= :max_retries"
_CONDITIONS = {  # all of them are simple comparisons on the few parked rows
    "ids": "id = ANY(:ids)",
    "keys": f"{KEY_SQL} = ANY(:keys)",
    "event_types": "event_type = ANY(:event_types)",
    "topics": "topic = ANY(:topics)",
    "since": "created_at >= :since",
    "until": "created_at < :until",
}
_TYPES: dict[str, Any] = {
    "ids": ARRAY(Uuid),
    "keys": ARRAY(Text),
    "event_types": ARRAY(Text),
    "topics": ARRAY(Text),
    "since": DateTime(timezone=True),
    "until": DateTime(timezone=True),
}
_LISTED = (
    "id, aggregate_id, aggregate_type, event_type, topic, " + KEY_SQL + " AS key, created_at::timestamptz,"
    " retry_count, coalesce(last_error, '')"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which parked events are meant. Criteria are combined with AND, the values of one with OR.

    Attributes:
        ids: Rows.
        keys: Partition keys (the aggregate's id where an event has none).
        event_types: Names and versions of events.
        topics: Where they go.
        since: Added at or after this moment; needs a time zone.
        until: Added before this moment; needs a time zone.
        everything: All that is parked; must be said, an empty selection is an error.

    Raises:
        ValueError: Nothing is selected, or a moment has no time zone, or the range is empty.
    """

    ids: tuple[UUID, ...] = ()
    keys: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    everything: bool = False

    def __post_init__(self) -> None:
        for name in ("since", "until"):
            moment: datetime | None = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"Selection.{name} {moment.isoformat()} has no time zone; add one, as +00:00")
        if self.since is not None and self.until is not None and self.since >= self.until:
            raise ValueError(f"Selection.since {self.since.isoformat()} must be before until {self.until.isoformat()}")
        if not self.everything and not self.criteria():
            raise ValueError(
                "Selection: nothing is selected; name ids, keys, event_types, topics, since or until,"
                " or say everything=True"
            )

    def criteria(self) -> dict[str, Any]:
        """The criteria that are set."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "everything"}
        return {name: value for name, value in values.items() if value is not None and value != ()}

    def as_json(self) -> dict[str, Any]:
        """The criteria for a record, as JSON values; ``{"everything": true}`` without any."""
        shown = {
            name: [str(one) for one in value] if isinstance(value, tuple) else value.isoformat()
            for name, value in self.criteria().items()
        }
        return shown or {"everything": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedEvent:
    """An event that was given up.

    Attributes:
        id: The row.
        aggregate_id: What the event is about.
        aggregate_type: Of which kind that is.
        event_type: Name and version.
        topic: Where it goes.
        key: Its partition key; the aggregate's id where it has none.
        created_at: When it was added.
        retry_count: Attempts that failed.
        cause: The last error.
    """

    id: UUID
    aggregate_id: str
    aggregate_type: str
    event_type: str
    topic: str
    key: str
    created_at: datetime
    retry_count: int
    cause: str

    def as_json(self) -> dict[str, Any]:
        """All fields, as JSON values."""
        return asdict(self) | {"id": str(self.id), "created_at": self.created_at.isoformat()}


async def list_parked(
    engine: AsyncEngine,
    selection: Selection | None = None,
    *,
    max_retries: int = MAX_RETRIES,
    limit: int = 100,
    timeout_s: float = 10.0,
) -> list[ParkedEvent]:
    """Parked events, the oldest first.

    Args:
        engine: Where the table is.
        selection: Which; by default all.
        max_retries: As in the relay's settings.
        limit: At most so many.
        timeout_s: For the statement.

    Raises:
        TimeoutError: The database did not answer in time.
        sqlalchemy.exc.SQLAlchemyError: It is out of reach, or the table is unfit.
    """
    chosen = selection or Selection(everything=True)
    async with bounded(engine, timeout_s) as connection:
        return await read_parked(connection, chosen, max_retries=max_retries, limit=limit)


async def read_parked(
    connection: AsyncConnection, selection: Selection, *, max_retries: int, limit: int
) -> list[ParkedEvent]:
    """`list_parked` on a connection that is there."""
    statement = _parked_statement(selection)
    result = await connection.execute(statement, {"max_retries": max_retries, "limit": limit, **_parameters(selection)})
    names = [one.name for one in fields(ParkedEvent)]
    return [ParkedEvent(**dict(zip(names, row, strict=True))) for row in result]


def _parked_statement(selection: Selection) -> TextualSelect:
    criteria = selection.criteria()
    condition = " AND ".join([PARKED_SQL, *(_CONDITIONS[name] for name in criteria)])
    statement = text(
        f"SELECT {_LISTED} FROM event_outbox WHERE {condition}"  # noqa: S608  # constants only
        " ORDER BY event_outbox.created_at, event_outbox.id LIMIT :limit"
    )
    return statement.bindparams(*(bindparam(name, type_=_TYPES[name]) for name in criteria)).columns(id=Uuid)


def _parameters(selection: Selection) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, Sequence) else value for name, value in selection.criteria().items()}
