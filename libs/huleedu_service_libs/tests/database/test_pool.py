"""The pool monitor on a real PostgreSQL."""

import asyncio

import pytest
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.database import (
    DatabaseMetrics,
    setup_connection_monitoring,
    setup_database_monitoring,
)
from huleedu_service_libs.database.engines import pool_label

from .conftest import MakeEngine
from .figures import sample

pytestmark = pytest.mark.integration


def _gauges(service: str) -> dict[str, float]:
    names = ("active", "idle", "total", "overflow")
    return {name: sample(f"{service}_database_connections_{name}") for name in names}


async def test_the_gauges_follow_the_pool(engine: AsyncEngine, service: str) -> None:
    """In use, idle, open and overflow are right at each moment, the one after the last return included."""
    setup_database_monitoring(engine, service)
    async with engine.connect(), engine.connect():
        assert _gauges(service) == {"active": 2, "idle": 0, "total": 2, "overflow": 0}
        async with engine.connect():
            assert _gauges(service) == {"active": 3, "idle": 0, "total": 3, "overflow": 1}
    assert _gauges(service) == {"active": 0, "idle": 2, "total": 2, "overflow": 0}
    assert sample(f"{service}_database_connections_acquired_total") == 3
    assert sample(f"{service}_database_connections_released_total") == 3


async def test_set_up_three_times_and_disposed_of_it_counts_once(engine: AsyncEngine, service: str) -> None:
    """Neither a repeated set-up nor `dispose()` loses or doubles a figure: pool events, waits, statements."""
    for target in (engine, engine, engine.execution_options(isolation_level="AUTOCOMMIT")):
        setup_database_monitoring(target, service)
    pool = pool_label(engine)
    for round_ in range(1, 4):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT * FROM essays"))
        assert sample(f"{service}_database_connections_acquired_total") == round_
        assert sample(f"{service}_database_connections_released_total") == round_
        assert sample(f"{service}_database_connection_wait_seconds_count", pool=pool) == round_
        assert sample(f"{service}_database_connection_use_seconds_count", pool=pool) == round_
        assert sample(f"{service}_database_connection_create_seconds_count", pool=pool) == round_
        labels = {"operation": "select", "table": "essays", "result": "success"}
        assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == round_
        await engine.dispose()
    assert _gauges(service) == {"active": 0, "idle": 0, "total": 0, "overflow": 0}


async def test_two_names_on_one_engine_both_get_the_figures(engine: AsyncEngine, service: str) -> None:
    """Set up under two service names, each counts every connection once."""
    for name in (service, f"{service}_short"):
        setup_database_monitoring(engine, name)
    async with engine.connect():
        assert sample(f"{service}_database_connections_active") == 1
        assert sample(f"{service}_short_database_connections_active") == 1
    assert sample(f"{service}_short_database_connections_acquired_total") == 1


async def test_a_second_monitor_for_the_same_metrics_counts_nothing_twice(engine: AsyncEngine, service: str) -> None:
    """`setup_connection_monitoring` behind `setup_database_monitoring`, with the metrics that it returned."""
    metrics = setup_database_monitoring(engine, service)
    setup_connection_monitoring(engine, metrics)
    async with engine.connect():
        assert _gauges(service)["active"] == 1
    assert sample(f"{service}_database_connections_acquired_total") == 1
    assert sample(f"{service}_database_connections_released_total") == 1


async def test_two_engines_of_one_service_add_up(make_engine: MakeEngine, service: str) -> None:
    """The gauges are the sum of a service's pools, and the label `pool` tells them apart."""
    reader = make_engine(pool_size=2, pool_logging_name="reader")
    writer = make_engine(pool_size=2, pool_logging_name="writer")
    for engine in (reader, writer):
        setup_database_monitoring(engine, service)
    async with reader.connect(), writer.connect(), writer.connect():
        assert _gauges(service)["active"] == 3
    assert _gauges(service) == {"active": 0, "idle": 3, "total": 3, "overflow": 0}
    assert sample(f"{service}_database_connection_wait_seconds_count", pool="reader") == 1
    assert sample(f"{service}_database_connection_wait_seconds_count", pool="writer") == 2
    await writer.dispose()
    assert _gauges(service)["total"] == 1


async def test_whoever_waits_is_seen_and_whoever_gives_up_is_counted(make_engine: MakeEngine, service: str) -> None:
    """With every connection in use the waiting callers are pending, their wait is observed, a time-out counted."""
    engine = make_engine(pool_size=2, max_overflow=1, pool_timeout=3)  # on a busy machine one second is soon over
    setup_database_monitoring(engine, service)
    pool = pool_label(engine)

    async def take() -> None:
        async with engine.connect():
            await asyncio.sleep(0)

    async with engine.connect(), engine.connect():
        async with engine.connect():
            first, second = asyncio.create_task(take()), asyncio.create_task(take())
            await asyncio.sleep(0.1)
            assert sample(f"{service}_database_connection_pending", pool=pool) == 2
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert sample(f"{service}_database_connection_pending", pool=pool) == 1
        await second
        async with engine.connect():
            with pytest.raises(PoolTimeoutError):
                await take()
    assert sample(f"{service}_database_connection_timeouts_total", pool=pool) == 1
    assert sample(f"{service}_database_connection_pending", pool=pool) == 0
    assert sample(f"{service}_database_connection_wait_seconds_sum", pool=pool) >= 0.09
    assert sample(f"{service}_database_connection_limit", pool=pool) == 3


async def test_an_invalidated_connection_is_an_error_of_its_class(engine: AsyncEngine, service: str) -> None:
    """Invalidation with an exception counts that class; without one it counts as an invalidation alone."""
    setup_database_monitoring(engine, service)
    async with engine.connect() as connection:
        await connection.invalidate(ValueError("broken"))
    assert sample(f"{service}_database_errors_total", error_type="ValueError", operation="connection_invalidate") == 1
    assert sample(f"{service}_database_connection_invalidations_total", pool=pool_label(engine)) == 1


async def test_a_detached_connection_is_no_longer_in_use(engine: AsyncEngine, service: str) -> None:
    """Who takes a connection out of the pool for good has given its place back: no gauge stands at one for ever."""
    setup_database_monitoring(engine, service)
    async with engine.connect() as connection:
        await connection.run_sync(Connection.detach)
        assert sample(f"{service}_database_connections_active") == 0
    assert sample(f"{service}_database_connections_released_total") == 1
    assert sample(f"{service}_database_connection_use_seconds_count", pool=pool_label(engine)) == 1


async def test_a_pool_without_figures_is_watched_as_far_as_it_goes(make_engine: MakeEngine, service: str) -> None:
    """`NullPool` has no size; connections are counted all the same and its status is all zeros."""
    engine = make_engine(poolclass=NullPool)
    setup_database_monitoring(engine, service)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
    assert sample(f"{service}_database_connections_acquired_total") == 1
    monitor = setup_connection_monitoring(engine, DatabaseMetrics(service))
    assert monitor.get_current_status() == {
        "pool_size": 0,
        "active_connections": 0,
        "idle_connections": 0,
        "overflow_connections": 0,
        "pool_usage_percent": 0.0,
    }


async def test_usage_is_of_all_connections_that_the_pool_may_open(engine: AsyncEngine, service: str) -> None:
    """One of two and one of overflow is a third, not all of it."""
    monitor = setup_connection_monitoring(engine, DatabaseMetrics(service))
    async with engine.connect():
        assert monitor.get_current_status() == {
            "pool_size": 2,
            "active_connections": 1,
            "idle_connections": 0,
            "overflow_connections": 0,
            "pool_usage_percent": 33.3,
        }


async def test_a_failing_metric_fails_no_query(engine: AsyncEngine, service: str) -> None:
    """Metrics that raise on every call leave queries as they are, and are counted."""

    class Broken(DatabaseMetrics):
        def set_connection_pool_status(self, active: int, idle: int, total: int, overflow: int) -> None:
            raise RuntimeError("no figures today")

    before = sample("huleedu_database_monitoring_errors_total", part="pool")
    setup_connection_monitoring(engine, Broken(service))
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    assert sample("huleedu_database_monitoring_errors_total", part="pool") > before
