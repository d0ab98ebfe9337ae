"""Retention on a real PostgreSQL: what is old and published goes, everything else stays, however many purge."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.purge import _DELETE, OutboxPurgeError, PurgeLimits, purge
from tests.contract.outbox_tables import VARIANTS

from ..databases import engine_with

pytestmark = pytest.mark.integration

HOUR = 3600.0


async def _no_sleep(_: float) -> None:
    await asyncio.sleep(0)


@pytest.fixture(name="any_engine", params=["own", *VARIANTS])
async def _any_engine(request: pytest.FixtureRequest, postgres_database: str) -> AsyncIterator[AsyncEngine]:
    tables = VARIANTS.get(request.param, Base.metadata)
    async with engine_with(tables, postgres_database, zone="Europe/Stockholm") as engine:
        yield engine


async def _fill(engine: AsyncEngine, count: int, published: str, retry_count: int = 0, pad: int = 10) -> None:
    """Add ``count`` events, published at an SQL expression of ``n``."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at,"  # noqa: S608  # ours
                f" published_at, retry_count) SELECT gen_random_uuid(), 'a' || n, repeat('x', {pad}), 'e', '{{}}', 't',"
                f" now() - interval '9 days', {published}, {retry_count} FROM generate_series(1, {count}) n"
            )
        )


async def _counts(engine: AsyncEngine) -> tuple[int, int]:
    """Published and unpublished rows."""
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT count(published_at), count(*) FROM event_outbox"))).one()
        return row[0], row[1] - row[0]


async def test_what_was_published_before_the_retention_goes(any_engine: AsyncEngine) -> None:
    """Only that: recent, waiting and parked events stay, whatever their age; a second pass finds nothing."""
    await _fill(any_engine, 50, "now() - interval '2 hours'")
    await _fill(any_engine, 20, "now() - interval '30 minutes'")
    await _fill(any_engine, 7, "NULL")
    await _fill(any_engine, 3, "NULL", retry_count=5)
    result = await purge(any_engine, retention_seconds=HOUR, sleep=_no_sleep)
    assert (result.deleted, result.complete) == (50, True)
    assert await _counts(any_engine) == (20, 10)
    assert (await purge(any_engine, retention_seconds=HOUR, sleep=_no_sleep)).deleted == 0


async def test_each_statement_is_small(engine: AsyncEngine) -> None:
    """No statement deletes more than the limit, or reads more pages; together they miss nothing, and are paced."""
    await _fill(engine, 3000, "now() - interval '2 hours'", pad=90)
    deleted: list[int] = []

    def note(*call: Any) -> None:
        if call[2].startswith("DELETE"):
            deleted.append(call[1].rowcount)

    event.listen(engine.sync_engine, "after_cursor_execute", note)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    limits = PurgeLimits(pages_per_batch=4, events_per_batch=100, batches_per_second=40)
    before = REGISTRY.get_sample_value("outbox_events_purged_total", {"service": "purged"}) or 0
    result = await purge(engine, retention_seconds=HOUR, service_name="purged", limits=limits, sleep=sleep)
    assert (result.deleted, sum(deleted), max(deleted)) == (3000, 3000, 100)
    assert waits == [1 / 40] * (len(deleted) - 1)
    assert REGISTRY.get_sample_value("outbox_events_purged_total", {"service": "purged"}) == before + 3000


async def test_a_batch_reads_its_pages_alone(engine: AsyncEngine) -> None:
    """The plan goes to the pages and rows by their places; nothing walks the whole table."""
    await _fill(engine, 3000, "now() - interval '2 hours'", pad=90)
    async with engine.connect() as connection:
        plan = await connection.scalars(
            text(f"EXPLAIN {_DELETE.text}"), {"first": "(4,0)", "behind": "(8,0)", "retention": HOUR, "most": 1000}
        )
        lines = list(plan)
    assert any("Tid Range Scan" in line for line in lines), lines
    assert not any("Seq Scan" in line for line in lines), lines


async def test_rows_that_somebody_holds_are_passed_over(engine: AsyncEngine) -> None:
    """A locked row does not stop the purge; the next pass takes it."""
    await _fill(engine, 10, "now() - interval '2 hours'")
    async with engine.connect() as holder:
        await holder.execute(text("SELECT * FROM event_outbox WHERE aggregate_id = 'a3' FOR UPDATE"))
        assert (await purge(engine, retention_seconds=HOUR, sleep=_no_sleep)).deleted == 9
    assert (await purge(engine, retention_seconds=HOUR, sleep=_no_sleep)).deleted == 1


async def test_many_purgers_do_not_wait_for_each_other(engine: AsyncEngine) -> None:
    """Each event is deleted once, nothing is left over by the one who finishes, and nobody fails."""
    await _fill(engine, 3000, "now() - interval '2 hours'", pad=90)
    limits = PurgeLimits(pages_per_batch=4, events_per_batch=50)
    results = await asyncio.gather(
        *(purge(engine, retention_seconds=HOUR, limits=limits, sleep=_no_sleep) for _ in range(4))
    )
    assert sum(one.deleted for one in results) == 3000
    assert any(one.complete for one in results)
    assert await _counts(engine) == (0, 0)


async def test_an_event_that_is_completed_meanwhile_stays(engine: AsyncEngine) -> None:
    """The relay goes on beside the purge; what it completes is young and stays."""
    await _fill(engine, 500, "now() - interval '2 hours'", pad=90)
    await _fill(engine, 500, "NULL", pad=90)

    async def complete(_: float) -> None:
        async with engine.begin() as connection:
            await connection.execute(
                text(
                    "UPDATE event_outbox SET published_at = now() WHERE id IN"
                    " (SELECT id FROM event_outbox WHERE published_at IS NULL LIMIT 50)"
                )
            )

    limits = PurgeLimits(pages_per_batch=1, events_per_batch=50)
    assert (await purge(engine, retention_seconds=HOUR, limits=limits, sleep=complete)).deleted == 500
    published, waiting = await _counts(engine)
    assert published + waiting == 500
    assert published > 0


async def test_a_partitioned_table_is_refused(postgres_database: str) -> None:
    """The error says to drop partitions."""
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.execute(
            text("CREATE TABLE event_outbox (id uuid, published_at timestamptz) PARTITION BY RANGE (published_at)")
        )
    with pytest.raises(OutboxPurgeError, match="drop old partitions"):
        await purge(engine, retention_seconds=HOUR)
    await engine.dispose()


@pytest.mark.parametrize("wrong", [{"pages_per_batch": 0}, {"events_per_batch": 10**6}, {"batches_per_second": 0.0}])
def test_limits_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """The error names the limit, its range and the value."""
    (name,) = wrong
    with pytest.raises(ValueError, match=rf"PurgeLimits\.{name} must be from .* got {wrong[name]}"):
        PurgeLimits(**wrong)


async def test_a_negative_retention_is_refused(engine: AsyncEngine) -> None:
    """It would delete what was just published."""
    with pytest.raises(ValueError, match="retention_seconds must be 0 or more, is -1"):
        await purge(engine, retention_seconds=-1)
