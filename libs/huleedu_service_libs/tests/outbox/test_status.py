"""The outbox's status and metrics from the table, its bloat check, and the chores of a running relay."""

import asyncio
import json
from functools import partial
from time import monotonic
from typing import Any
from unittest.mock import ANY

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from structlog.testing import capture_logs

from huleedu_service_libs.outbox import status as outbox_status
from huleedu_service_libs.outbox.bloat import check_bloat
from huleedu_service_libs.outbox.maintenance import LEAST_PAUSE_S, OutboxMaintenance
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.status import OutboxStatus, StatusLimits, measure_status, read_status
from huleedu_service_libs.outbox.writers import Writer

from ..databases import statements_of
from ..waiting import until

pytestmark = pytest.mark.integration


async def _add(engine: AsyncEngine, age: str = "0 s", retry_count: int = 0) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at,"  # noqa: S608  # ours
                " retry_count) VALUES (gen_random_uuid(), 'a', 'x', 'e', '{}', 't',"
                f" clock_timestamp() - interval '{age}', {retry_count})"
            )
        )


async def _status(engine: AsyncEngine, **limits: Any) -> OutboxStatus:
    return await read_status(engine, service_name="svc", limits=StatusLimits(**limits))


def _gauge(name: str, service: str = "svc") -> float | None:
    return REGISTRY.get_sample_value(name, {"service": service})


async def test_an_empty_outbox_is_healthy(engine: AsyncEngine) -> None:
    """Nothing waits, so that nobody need be there to take it."""
    status = await _status(engine)
    assert (status.status, status.problems, status.waiting, status.parked) == ("healthy", (), 0, 0)
    assert (status.relays, status.lanes_owned, status.lanes, status.oldest_age_s) == (0, 0, 64, 0.0)
    assert json.loads(json.dumps(status.as_json()))["status"] == "healthy"


async def test_events_without_a_relay_are_unhealthy(engine: AsyncEngine) -> None:
    """The problem says how many wait and what to start."""
    await _add(engine)
    status = await _status(engine)
    assert status.status == "unhealthy"
    assert "waiting events: 1, and no relay is alive" in status.problems[0]


async def test_relays_and_their_lanes_are_seen_from_outside(engine: AsyncEngine) -> None:
    """Whoever asks sees how many relays live and how many lanes they own."""
    stores = [PostgreSQLOutboxRepository(engine, "svc").batch_store() for _ in range(2)]
    for store in stores:
        await store.fetch(limit=1, max_retries=5, held_keys=[], held_topics=[])
    status = await _status(engine)
    assert (status.relays, status.lanes_owned) == (2, 64)
    for store in stores:
        await store.close()
    async with asyncio.timeout(20):
        while (await _status(engine)).relays:
            await asyncio.sleep(0.05)


async def test_the_oldest_waiting_event_and_the_parked_ones_are_told(engine: AsyncEngine) -> None:
    """Parked events count for themselves, not for the age; both are problems and gauges with the service's label."""
    store = PostgreSQLOutboxRepository(engine, "svc").batch_store()
    await store.fetch(limit=1, max_retries=5, held_keys=[], held_topics=[])
    await _add(engine, "1 hour", retry_count=5)
    await _add(engine, "2 minutes")
    await _add(engine)
    status = await _status(engine)
    assert (status.status, status.waiting, status.parked, status.counted_all) == ("warning", 2, 1, True)
    assert 119 < status.oldest_age_s < 150
    old, parked = status.problems
    assert "the oldest of 2 waiting events is 12" in old
    assert "parked events: 1" in parked
    measure_status(status)
    assert _gauge("outbox_parked_events") == 1
    assert _gauge("outbox_lanes_owned") == 64
    assert _gauge("outbox_relays") == 1
    assert _gauge("outbox_oldest_unpublished_age_seconds") == status.oldest_age_s
    await store.close()


async def test_a_long_writer_is_a_problem_where_order_is_strict(engine: AsyncEngine) -> None:
    """The status names its pid, application and age; without strict mode it is shown and no problem."""
    named = create_async_engine(engine.url, connect_args={"server_settings": {"application_name": "night-import"}})
    repository = PostgreSQLOutboxRepository(named, "svc")
    async with AsyncSession(named) as session:
        pid = await session.scalar(text("SELECT pg_backend_pid()"))
        await repository.add_event(
            aggregate_id="k", aggregate_type="x", event_type="e", event_data={}, topic="t", session=session
        )
        strict = await _status(engine, strict_order=True, writer_age_s=0.0)
        usual = await _status(engine, writer_age_s=0.0)
    await named.dispose()
    assert strict.status == "warning"
    assert f"pid {pid} (application 'night-import', idle in transaction), running for" in strict.problems[0]
    assert usual.status == "healthy"
    assert usual.oldest_writer is not None
    assert usual.oldest_writer.pid == pid
    assert json.loads(json.dumps(usual.as_json()))["oldest_writer"]["application"] == "night-import"


async def test_what_the_numbers_leave_out_is_told(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound of what is counted, and where parked events slow the looks down, the status says so and what helps."""
    monkeypatch.setattr(outbox_status, "MOST_COUNTED", 4)
    monkeypatch.setattr(outbox_status, "MANY_PARKED", 2)
    for number in range(6):
        await _add(engine, f"{60 - number} minutes", retry_count=5)
    status = await _status(engine)
    assert (status.counted_all, status.parked) == (False, 5)
    told = " / ".join(status.problems)
    assert "more than 4 events are unpublished: waiting and parked count the oldest of them only" in told
    assert "looks past 5 parked events" in told
    assert "WHERE published_at IS NULL AND coalesce(retry_count, 0) < 5" in told


@pytest.mark.parametrize(("pid", "told"), [(None, "COMMIT PREPARED or ROLLBACK PREPARED"), (7, "pid 7")])
def test_a_writer_whose_start_is_unknown_is_named_by_what_waits_behind_it(pid: int | None, told: str) -> None:
    """A prepared transaction, or one whose start this role may not see, has no age; that of the oldest event stands in."""
    writer = Writer(transaction="3/17", pid=pid, application="", state="", started=None, age_seconds=None)
    limits = StatusLimits(strict_order=True, writer_age_s=10.0)
    assert _problems(limits, age=11.0, writer=writer) == [ANY]
    assert told in _problems(limits, age=11.0, writer=writer)[0]
    assert _problems(limits, age=9.0, writer=writer) == []


def _problems(limits: StatusLimits, *, age: float, writer: Writer) -> list[str]:
    """The problems of an outbox in which one event of that age waits."""
    return outbox_status._problems(limits, waiting=1, parked=0, age=age, relays=1, writer=writer, max_retries=5)


# --- bloat


async def _run(engine: AsyncEngine, *statements: str) -> None:
    async with engine.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in statements:
            await autocommit.execute(text(statement))


async def test_the_bloat_check_gives_the_statement_and_is_content_once_it_was_run(engine: AsyncEngine) -> None:
    """PostgreSQL's defaults are too slow for an outbox; what is advised can be run, and is enough."""
    before = await check_bloat(engine)
    (statement,) = before.statements
    assert statement.startswith("ALTER TABLE event_outbox SET (autovacuum_vacuum_scale_factor = 0.0")
    assert "20%" in before.problems[0]
    await _run(engine, statement)
    after = await check_bloat(engine)
    assert (after.problems, after.statements, after.vacuum_starts_at) == ((), (), 2000)
    assert json.loads(json.dumps(after.as_json()))["vacuum_starts_at"] == 2000


async def test_autovacuum_that_is_off_is_told(engine: AsyncEngine) -> None:
    """With the statement that switches it on again."""
    await _run(engine, "ALTER TABLE event_outbox SET (autovacuum_enabled = false)")
    report = await check_bloat(engine)
    assert "autovacuum is switched off for this table" in report.problems
    assert "ALTER TABLE event_outbox RESET (autovacuum_enabled)" in report.statements


async def test_vacuum_that_does_not_keep_up_is_told(engine: AsyncEngine) -> None:
    """Far more dead rows than should have started it: run it by hand, and look who is in the way."""
    await _run(
        engine,
        "ALTER TABLE event_outbox SET (autovacuum_enabled = false)",
        "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic)"
        " SELECT gen_random_uuid(), 'a', 'x', 'e', '{}', 't' FROM generate_series(1, 25000)",
        "DELETE FROM event_outbox",
    )
    report = await check_bloat(engine)
    for _ in range(200):  # statistics arrive with a delay
        if report.dead_rows >= 25000:
            break
        await asyncio.sleep(0.1)
        report = await check_bloat(engine)
    assert any("25000 rows are dead" in one for one in report.problems)
    assert report.statements[-1] == "VACUUM event_outbox"


async def test_who_keeps_vacuum_from_its_work_is_named(engine: AsyncEngine) -> None:
    """A session with an old view: pid, application and age, and how to end it; a young one is not told."""
    named = create_async_engine(engine.url, connect_args={"server_settings": {"application_name": "report"}})
    async with named.connect() as plain:
        connection = await plain.execution_options(isolation_level="REPEATABLE READ")
        pid = await connection.scalar(text("SELECT pg_backend_pid() FROM event_outbox RIGHT JOIN (SELECT 1) ON true"))
        found = (await check_bloat(engine, holder_age_s=0.0)).holders
        young = (await check_bloat(engine, holder_age_s=60.0)).holders
    await named.dispose()
    (holder,) = [one for one in found if one.pid == pid]
    assert (holder.kind, holder.name, holder.state) == ("session", "report", "idle in transaction")
    assert holder.fix == f"end its transaction: SELECT pg_terminate_backend({pid})"
    assert holder.age_seconds is not None
    assert not [one for one in young if one.pid == pid]


# --- chores of a relay


class Time:
    """A clock that jumps ahead at each sleep."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.turns = 0
        self._step = step

    def clock(self) -> float:
        return self.now

    def has_turned(self) -> bool:
        return self.turns > 3

    async def sleep(self, seconds: float) -> None:
        assert seconds >= 0.05
        self.turns += 1
        self.now += self._step
        await asyncio.sleep(0)


def _chores(engine: AsyncEngine, service: str, time: Time, *, turn: bool = True, **settings: Any) -> OutboxMaintenance:
    return OutboxMaintenance(
        engine, OutboxSettings(**settings), service, is_turn=lambda: turn, clock=time.clock, sleep=time.sleep
    )


async def test_maintenance_measures_and_purges(engine: AsyncEngine) -> None:
    """Gauges are set and published events go when their times have come; start and stop may be said twice."""
    await _add(engine)
    await _add(engine, retry_count=5)
    await _run(engine, "UPDATE event_outbox SET published_at = now() - interval '1 hour' WHERE retry_count = 0")
    chores = _chores(engine, "chores", Time(1.0), retention_seconds=60.0, purge_interval_seconds=5.0)
    chores.start()
    chores.start()
    await until(lambda: REGISTRY.get_sample_value("outbox_events_purged_total", {"service": "chores"}) == 1)
    assert _gauge("outbox_parked_events", "chores") == 1
    await chores.stop()
    await chores.stop()


async def test_maintenance_runs_on_the_real_clock(engine: AsyncEngine) -> None:
    """Nothing of it needs a test's clock, and no setting makes it spin."""
    await _add(engine)
    await _run(engine, "UPDATE event_outbox SET published_at = now() - interval '1 hour'")
    settings = OutboxSettings(retention_seconds=0.0, purge_interval_seconds=0.0)
    chores = OutboxMaintenance(engine, settings, "real")
    began = monotonic()
    with statements_of(engine) as seen:
        chores.start()
        await until(lambda: REGISTRY.get_sample_value("outbox_events_purged_total", {"service": "real"}) == 1)
        await until(lambda: sum("DELETE" in statement for statement in seen) >= 5)
        await chores.stop()
    purges = sum("DELETE" in statement for statement in seen)
    assert purges <= 1 + (monotonic() - began) / LEAST_PAUSE_S


async def test_without_retention_nothing_is_purged_and_only_in_turn(engine: AsyncEngine) -> None:
    """By default published events stay; with a retention, only the relay whose turn it is purges."""
    await _add(engine)
    await _run(engine, "UPDATE event_outbox SET published_at = now() - interval '1 hour'")
    times = [Time(1000.0), Time(1000.0)]
    keeps = _chores(engine, "keeps", times[0])
    waits = _chores(engine, "waits", times[1], turn=False, retention_seconds=0.0)
    for chores, time in zip((keeps, waits), times, strict=True):
        chores.start()
        await until(time.has_turned)
        await chores.stop()
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM event_outbox")) == 1


async def test_trouble_of_a_chore_is_counted_told_once_and_tried_again(engine: AsyncEngine) -> None:
    """A missing table: the schema check names it, each failed look counts, one line tells it, and one that it is over."""
    await _run(engine, "ALTER TABLE event_outbox RENAME TO put_aside")
    time = Time(0.0)  # stands still but for the test

    def errors() -> float | None:
        return REGISTRY.get_sample_value("outbox_relay_errors_total", {"service": "troubled", "error_type": "status"})

    def has(looks: float) -> bool:
        return errors() == looks

    with capture_logs() as logs:
        chores = _chores(engine, "troubled", time)
        chores.start()
        for looks in (1.0, 2.0, 3.0):
            time.now += 19.0
            await until(partial(has, looks))
        await _run(engine, "ALTER TABLE put_aside RENAME TO event_outbox")
        time.now += 19.0
        await until(lambda: any(line["event"] == "outbox_maintenance_trouble_over" for line in logs))
        await chores.stop()
    assert [line["subject"] for line in logs if line["event"] == "outbox_schema_finding"] == ["table event_outbox"]
    assert len([line for line in logs if line["event"] == "outbox_maintenance_failed"]) == 1
    (over,) = [line for line in logs if line["event"] == "outbox_maintenance_trouble_over"]
    assert (over["chore"], over["failures"], over["seconds"]) == ("status", 3, 57.0)
