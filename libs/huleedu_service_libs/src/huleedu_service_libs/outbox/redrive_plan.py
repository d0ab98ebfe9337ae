"""The dry run of a redrive: what would move, and what to know before it is done.

Command line and console ask before they move anything; ``redrive`` moves it, within the limits that stand here.
Reads only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ARRAY, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs._checks import within
from huleedu_service_libs.outbox.parked import ParkedEvent, Selection, read_parked
from huleedu_service_libs.outbox.sessions import bounded
from huleedu_service_libs.outbox.settings import MAX_RETRIES
from huleedu_service_libs.outbox.statements import KEY_SQL

__all__ = ["Mode", "RedriveLimits", "RedrivePlan", "plan_redrive"]

Mode = Literal["in-place", "appended"]
"""``in-place`` keeps an event's place, ``appended`` moves it to the end of its key; see ``redrive``."""

_MOST_EVENTS = 10_000  # of one run; their ids are held in memory
_MOST_BATCH = 1000
_MOST_RATE = 50.0  # batches a second

_OVERTAKEN = text(
    f"SELECT p.key, count(*) FROM (SELECT {KEY_SQL} AS key, created_at, id FROM event_outbox"  # noqa: S608  # constants only
    " WHERE published_at IS NOT NULL) AS p"
    " JOIN unnest(:keys, :ids) AS f(key, id) ON f.key = p.key JOIN event_outbox AS e ON e.id = f.id"
    " WHERE (p.created_at, p.id) > (e.created_at, e.id) GROUP BY p.key ORDER BY p.key"
).bindparams(bindparam("keys", type_=ARRAY(Text)), bindparam("ids", type_=ARRAY(Uuid)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RedriveLimits:
    """How fast, and how much at most.

    Attributes:
        most_events: Of one run, the oldest; 10 000 at most.
        batch_size: Events of one transaction; 1 000 at most. As many as the relay sends together.
        batches_per_second: From 0.01 to 50: what was parked may fail again, and the broker is in use.
        timeout_s: For each statement. Longer than that of what only looks, since other writers may hold the rows.

    Raises:
        ValueError: A value is out of its range.
    """

    most_events: int = _MOST_EVENTS
    batch_size: int = 100
    batches_per_second: float = 5.0
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        within(
            self,
            most_events=(1, _MOST_EVENTS),
            batch_size=(1, _MOST_BATCH),
            batches_per_second=(0.01, _MOST_RATE),
            timeout_s=(0.1, 600.0),
        )


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


async def plan_redrive(
    engine: AsyncEngine,
    selection: Selection,
    *,
    mode: Mode,
    max_retries: int = MAX_RETRIES,
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
        TimeoutError: All of one transaction took too long.
        sqlalchemy.exc.SQLAlchemyError: The database is out of reach, or a statement took too long.
    """
    bounds = limits or RedriveLimits()
    async with bounded(engine, bounds.timeout_s) as connection:
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
