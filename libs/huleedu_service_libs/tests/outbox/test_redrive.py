"""Parked events: listed with their cause, redriven in place or appended, with a dry run, a rate and a record."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.parked import Selection, list_parked
from huleedu_service_libs.outbox.redrive import RedriveLimits, plan_redrive, redrive
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from tests.contract.outbox_tables import VARIANTS

from ..databases import engine_with

pytestmark = pytest.mark.integration

EVERYTHING = Selection(everything=True)
WHO: dict[str, Any] = {"actor": "ada", "reason": "the broker's limit was raised"}
AUDIT = (
    "CREATE TABLE outbox_audit (id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),"
    " action varchar(50) NOT NULL, actor varchar(255) NOT NULL, reason text NOT NULL, selection json NOT NULL,"
    " event_count integer NOT NULL)"
)


class Outbox:
    """A table, with helpers to put events into each state."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.repository = PostgreSQLOutboxRepository(engine, "svc")

    async def add(self, key: str, event_type: str = "e.v1", state: str = "waiting") -> UUID:
        row = await self.repository.add_event(
            aggregate_id=key, aggregate_type="essay", event_type=event_type, event_data={"data": {}}, topic="t"
        )
        if state == "parked":
            await self.run("UPDATE event_outbox SET retry_count = 5, last_error = 'too large' WHERE id = :id", id=row)
        if state == "published":
            await self.repository.mark_event_published(row)
        return row

    async def run(self, statement: str, **values: Any) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(statement), values)

    async def order(self) -> list[UUID]:
        """What a relay would send, in its order."""
        store = self.repository.batch_store()
        events = await store.fetch(limit=100_000, max_retries=5, held_keys=[], held_topics=[])
        await store.close()
        return [one.id for one in events]

    async def one(self, row: UUID) -> Any:
        return await self.repository.get_event_by_id(row)


@pytest.fixture(name="outbox")
async def _outbox(engine: AsyncEngine) -> Outbox:
    return Outbox(engine)


@pytest.fixture(name="any_outbox", params=["own", *VARIANTS])
async def _any_outbox(request: pytest.FixtureRequest, postgres_database: str) -> AsyncIterator[Outbox]:
    """The library's table, and each of the services'; in a session with another time zone."""
    tables = VARIANTS.get(request.param, Base.metadata)
    async with engine_with(tables, postgres_database, zone="Europe/Stockholm") as engine:
        yield Outbox(engine)


async def test_parked_events_are_listed_with_their_cause(any_outbox: Outbox) -> None:
    """The oldest first and limited; waiting and published ones are not among them; the time is the moment it was added."""
    parked = [await any_outbox.add(f"k{n}", state="parked") for n in range(3)]
    await any_outbox.add("k0")
    await any_outbox.add("k0", state="published")
    found = await list_parked(any_outbox.engine)
    assert [one.id for one in found] == parked
    assert (found[0].cause, found[0].retry_count, found[0].key) == ("too large", 5, "k0")
    assert abs(datetime.now(UTC) - found[0].created_at) < timedelta(seconds=30)
    assert json.loads(json.dumps(found[0].as_json()))["id"] == str(parked[0])
    assert [one.id for one in await list_parked(any_outbox.engine, limit=2)] == parked[:2]


async def test_a_selection_by_each_criterion(any_outbox: Outbox) -> None:
    """By id, key, type, topic and time; criteria are combined with AND."""
    one = await any_outbox.add("a", "x.v1", "parked")
    await asyncio.sleep(0.002)
    moment = datetime.now(UTC)
    await asyncio.sleep(0.002)
    two = await any_outbox.add("b", "y.v1", "parked")

    async def chosen(**criteria: Any) -> list[UUID]:
        return [event.id for event in await list_parked(any_outbox.engine, Selection(**criteria))]

    assert await chosen(ids=(two, uuid4())) == [two]
    assert await chosen(keys=("a",)) == [one]
    assert await chosen(event_types=("y.v1", "z")) == [two]
    assert await chosen(topics=("t",)) == [one, two]
    assert await chosen(until=moment) == [one]
    assert await chosen(since=moment) == [two]
    assert await chosen(since=moment, keys=("a",)) == []


@pytest.mark.parametrize(
    ("criteria", "says"),
    [
        ({}, "everything=True"),
        ({"since": datetime(2026, 1, 1)}, "since 2026-01-01T00:00:00 has no time zone"),  # noqa: DTZ001
        (
            {"since": datetime(2026, 1, 2, tzinfo=UTC), "until": datetime(2026, 1, 1, tzinfo=UTC)},
            "must be before until",
        ),
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(criteria: dict[str, Any], says: str) -> None:
    """Nothing selected, a moment without zone, an empty range: the error names it."""
    with pytest.raises(ValueError, match=says):
        Selection(**criteria)


async def test_in_place_keeps_the_place(any_outbox: Outbox) -> None:
    """The attempts start at zero, the time of addition stays, and the event leaves before its waiting successors."""
    parked = await any_outbox.add("k", state="parked")
    waiting = await any_outbox.add("k")
    before = await any_outbox.one(parked)
    result = await redrive(any_outbox.engine, EVERYTHING, mode="in-place", **WHO)
    after = await any_outbox.one(parked)
    assert result.moved == (parked,)
    assert (after.retry_count, after.created_at) == (0, before.created_at)
    assert await any_outbox.order() == [parked, waiting]


async def test_appended_goes_to_the_end_of_the_key(any_outbox: Outbox) -> None:
    """Behind everything that waits, in their order among each other, with identity and payload unchanged."""
    parked = [await any_outbox.add("k", state="parked") for _ in range(5)]
    waiting = await any_outbox.add("k")
    before = await any_outbox.one(parked[0])
    result = await redrive(any_outbox.engine, EVERYTHING, mode="appended", **WHO, limits=RedriveLimits(batch_size=2))
    later = await any_outbox.add("k")
    assert result.moved == tuple(parked)
    assert await any_outbox.order() == [waiting, *parked, later]
    assert (await any_outbox.one(parked[0])).event_data == before.event_data


@pytest.mark.parametrize("mode", ["in-place", "appended"])
async def test_the_dry_run_says_what_would_move_and_changes_nothing(
    outbox: Outbox, mode: Literal["in-place", "appended"]
) -> None:
    """Counts for keys and types; in place warns where later events of a key have left, appended never does."""
    await outbox.add("ahead", state="published")
    parked = [await outbox.add(key, event_type, "parked") for key, event_type in [("a", "x"), ("a", "y"), ("b", "x")]]
    await outbox.add("a", state="published")
    await outbox.add("a", state="published")
    before = [await outbox.one(row) for row in parked]
    plan = await plan_redrive(outbox.engine, EVERYTHING, mode=mode)
    assert [one.id for one in plan.events] == parked
    assert (plan.by_key, plan.by_type) == ({"a": 2, "b": 1}, {"x": 2, "y": 1})
    assert plan.overtaken == {"a": 2}
    assert any("later events have left already (events: 2, keys: 1)" in one for one in plan.warnings) == (
        mode == "in-place"
    )
    assert json.loads(json.dumps(plan.as_json()))["count"] == 3
    after = [await outbox.one(row) for row in parked]
    assert [(one.retry_count, one.last_error, one.created_at) for one in after] == [
        (one.retry_count, one.last_error, one.created_at) for one in before
    ]


async def test_more_than_one_run_moves_is_told(outbox: Outbox) -> None:
    """The oldest are taken, and the plan says that there are more."""
    parked = [await outbox.add("k", state="parked") for _ in range(3)]
    limits = RedriveLimits(most_events=2)
    plan = await plan_redrive(outbox.engine, EVERYTHING, mode="in-place", limits=limits)
    assert any("run again for the rest" in one for one in plan.warnings)
    result = await redrive(outbox.engine, EVERYTHING, mode="in-place", **WHO, limits=limits)
    assert result.moved == tuple(parked[:2]) == tuple(one.id for one in plan.events)


async def test_batches_are_paced(outbox: Outbox) -> None:
    """Between batches the run waits, as the rate says; after the last it does not."""
    for _ in range(5):
        await outbox.add("k", state="parked")
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    limits = RedriveLimits(batch_size=2, batches_per_second=4)
    await redrive(outbox.engine, EVERYTHING, mode="in-place", **WHO, limits=limits, sleep=sleep)
    assert waits == [0.25, 0.25]


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"batches_per_second": 0.0}, {"batches_per_second": 1000.0}, {"most_events": 10**6}]
)
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """The error names the limit, its range and the value."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"RedriveLimits\.{name} must be from .* got {wrong[name]}"):
        RedriveLimits(**wrong)


@pytest.mark.parametrize("wrong", [{"actor": " "}, {"actor": "x" * 256}, {"reason": ""}])
async def test_who_and_why_must_be_said(outbox: Outbox, wrong: dict[str, str]) -> None:
    """Without them nothing is moved."""
    row = await outbox.add("k", state="parked")
    with pytest.raises(ValueError, match=next(iter(wrong))):
        await redrive(outbox.engine, EVERYTHING, mode="in-place", **(WHO | wrong))
    assert (await outbox.one(row)).retry_count == 5


async def test_without_an_audit_table_log_and_row_have_the_record(outbox: Outbox) -> None:
    """One log line with who, why, what and how many; each event keeps its old error behind the note."""
    row = await outbox.add("k", state="parked")
    with capture_logs() as logs:
        result = await redrive(outbox.engine, Selection(keys=("k",)), mode="in-place", **WHO, service_name="svc")
    (line,) = [one for one in logs if one["event"] == "outbox_audit"]
    assert (line["actor"], line["reason"], line["count"], line["complete"]) == ("ada", WHO["reason"], 1, True)
    assert (line["selection"], line["action"]) == ({"keys": ["k"]}, "redrive:in-place")
    assert result.audited_in == "log and last_error"
    note = (await outbox.one(row)).last_error
    assert note == "Redriven in-place by ada: the broker's limit was raised | before: too large"


async def test_with_an_audit_table_the_record_is_there(outbox: Outbox) -> None:
    """One row a run, its count grown batch by batch in the transactions that move the events."""
    await outbox.run(AUDIT)
    for _ in range(3):
        await outbox.add("k", state="parked")
    result = await redrive(outbox.engine, EVERYTHING, mode="appended", **WHO, limits=RedriveLimits(batch_size=2))
    async with outbox.engine.connect() as connection:
        rows = (
            await connection.execute(text("SELECT id, action, actor, reason, selection, event_count FROM outbox_audit"))
        ).all()
    assert [tuple(row) for row in rows] == [
        (result.run, "redrive:appended", "ada", WHO["reason"], {"everything": True}, 3)
    ]
    assert result.audited_in == "outbox_audit"


async def test_a_run_that_is_broken_off_has_moved_whole_batches_and_says_so(outbox: Outbox) -> None:
    """What is recorded and logged is what was moved."""
    await outbox.run(AUDIT)
    for _ in range(5):
        await outbox.add("k", state="parked")
    sleeps = iter([None, ConnectionResetError("gone")])

    async def sleep(_: float) -> None:
        error = next(sleeps)
        if error is not None:
            raise error

    with capture_logs() as logs, pytest.raises(ConnectionResetError):
        await redrive(
            outbox.engine, EVERYTHING, mode="in-place", **WHO, limits=RedriveLimits(batch_size=2), sleep=sleep
        )
    assert len(await list_parked(outbox.engine)) == 1
    (line,) = [one for one in logs if one["event"] == "outbox_audit"]
    assert (line["count"], line["complete"]) == (4, False)
    async with outbox.engine.connect() as connection:
        assert await connection.scalar(text("SELECT event_count FROM outbox_audit")) == 4


async def test_two_runs_at_once_do_not_meet_in_one_event(outbox: Outbox) -> None:
    """Each event is moved by one of them."""
    parked = {await outbox.add(f"k{n}", state="parked") for n in range(20)}
    limits = RedriveLimits(batch_size=3, batches_per_second=50)
    runs = await asyncio.gather(
        *(redrive(outbox.engine, EVERYTHING, mode="appended", **WHO, limits=limits) for _ in range(2))
    )
    moved = [row for run in runs for row in run.moved]
    assert len(moved) == len(set(moved))
    assert set(moved) == parked
    assert await list_parked(outbox.engine) == []


async def test_what_parks_again_meanwhile_is_not_moved_twice(outbox: Outbox) -> None:
    """A run moves what was parked when it began, once."""
    rows = [await outbox.add("k", state="parked") for _ in range(2)]

    async def park_again(_: float) -> None:
        await outbox.run("UPDATE event_outbox SET retry_count = 5 WHERE id = :id", id=rows[0])

    result = await redrive(
        outbox.engine, EVERYTHING, mode="in-place", **WHO, limits=RedriveLimits(batch_size=1), sleep=park_again
    )
    assert result.moved == tuple(rows)
    assert [one.id for one in await list_parked(outbox.engine)] == rows[:1]
