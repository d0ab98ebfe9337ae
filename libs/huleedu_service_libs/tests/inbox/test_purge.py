"""Old rows go, a little at a time, whoever else deletes them as well."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.inbox import InboxPurger
from libs.huleedu_service_libs.tests.inbox.events import rows

pytestmark = pytest.mark.integration


async def _fill(engine: AsyncEngine, count: int, age: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_inbox (consumer, event_id, processed_at)"
                " SELECT 'c', gen_random_uuid(), now() - CAST(:age AS text)::interval FROM generate_series(1, :count)"
            ),
            {"age": age, "count": count},
        )


async def test_purge_deletes_what_is_old_enough(engine: AsyncEngine) -> None:
    """All batches of one purge together delete every old row and no young one."""
    await _fill(engine, 250, "8 days")
    await _fill(engine, 30, "6 days")
    assert await InboxPurger(engine, batch_size=100).purge() == 250
    assert await rows(engine) == 30


async def test_many_purgers_share_the_work(engine: AsyncEngine) -> None:
    """Purgers at the same time skip each other's rows: each row is deleted once, and nobody waits or fails."""
    await _fill(engine, 900, "8 days")
    purged = await asyncio.gather(*(InboxPurger(engine, batch_size=40).purge() for _ in range(5)))
    await InboxPurger(engine).purge()
    assert await rows(engine) == 0
    assert sum(purged) <= 900


async def test_purging_in_the_background(engine: AsyncEngine) -> None:
    """Between start and stop it purges at once and after each interval; start and stop may be repeated."""
    await _fill(engine, 5, "8 days")
    turns = asyncio.Semaphore(0)
    waiting = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        waiting.set()
        await turns.acquire()

    async with InboxPurger(engine, sleep=sleep) as purger:
        await purger.start()
        await asyncio.wait_for(waiting.wait(), 20)
        assert await rows(engine) == 0
        await _fill(engine, 5, "8 days")
        waiting.clear()
        turns.release()
        await asyncio.wait_for(waiting.wait(), 20)
        assert await rows(engine) == 0
    await purger.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_failing_purge_is_counted_and_repeated() -> None:
    """Without a database the purger counts, says so, and lives on."""
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    before = REGISTRY.get_sample_value("inbox_purge_errors_total") or 0.0
    tried = asyncio.Semaphore(0)

    async def sleep(_seconds: float) -> None:
        tried.release()
        await asyncio.sleep(0.001)

    async with InboxPurger(engine, sleep=sleep):
        await asyncio.wait_for(tried.acquire(), 20)
        await asyncio.wait_for(tried.acquire(), 20)
    assert (REGISTRY.get_sample_value("inbox_purge_errors_total") or 0.0) >= before + 2
    await engine.dispose()


@pytest.mark.parametrize("wrong", ["retention_s", "batch_size", "interval_s"])
def test_settings_are_checked(wrong: str) -> None:
    """A value that is not positive is refused by name."""
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    with pytest.raises(ValueError, match=f"{wrong} must be positive, got 0"):
        InboxPurger(engine, **{wrong: 0})  # type: ignore[arg-type]
