"""Health checks: on doubles, on addresses where nothing answers, and on a real PostgreSQL."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.database import DatabaseHealthChecker, setup_database_monitoring
from huleedu_service_libs.database.health_checks import get_pool_status_safe
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import PostgresServer

from .conftest import MakeEngine
from .figures import sample


def _pool(size: Any, out: int = 0, idle: int = 0, overflow: int = 0) -> Mock:
    pool = Mock(spec=["size", "checkedout", "checkedin", "overflow"])
    pool.size.return_value, pool.checkedout.return_value = size, out
    pool.checkedin.return_value, pool.overflow.return_value = idle, overflow
    return pool


def _double(pool: Any, connection: Any | None = None) -> Any:
    engine = Mock(spec=["begin", "dispose", "pool"])
    engine.pool = pool

    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        yield connection or AsyncMock()

    engine.begin = begin
    return engine


async def test_a_double_with_begin_and_pool_alone_is_enough() -> None:
    """A pool whose size is no method costs the pool's figures, not the health."""
    pool = Mock()
    pool.size = 5
    summary = await DatabaseHealthChecker(_double(pool), "svc").get_health_summary()
    assert summary["status"] == "healthy"
    assert summary["connectivity"] is True
    assert set(summary) == {
        "service",
        "status",
        "connectivity",
        "response_time_seconds",
        "pool_utilization_percent",
        "active_connections",
        "timestamp",
    }


async def test_begin_that_raises_is_unhealthy() -> None:
    """The reason is told, its password is not."""
    engine = _double(_pool(5))
    engine.begin = Mock(side_effect=ConnectionError("cannot reach postgresql://u:hush@h/db"))
    checker = DatabaseHealthChecker(engine, "svc")
    summary = await checker.get_health_summary()
    assert summary["status"] == "unhealthy"
    assert "cannot reach" in summary["error"]
    assert "hush" not in json.dumps(summary)
    report = await checker.comprehensive_health_check()
    assert report["overall_status"] == "unhealthy"
    assert report["checks"]["connectivity"]["status"] == "unhealthy"


@pytest.mark.parametrize("engine", [AsyncMock(spec=AsyncEngine), Mock(), MagicMock(), object()], ids=range(4))
async def test_any_double_fails_soft(engine: Any) -> None:
    """Whatever is handed over as an engine, every check answers with plain JSON."""
    checker = DatabaseHealthChecker(engine, "svc")
    report = await checker.comprehensive_health_check()
    assert set(report["checks"]) == {"connectivity", "connection_pool", "query_performance", "database_resources"}
    json.dumps(report)
    json.dumps(await checker.get_health_summary())


@pytest.mark.parametrize(
    ("pool", "capacity", "percent", "status"),
    [
        (_pool(5, out=1, idle=0, overflow=-4), 5, 20.0, "healthy"),
        (_pool(5, out=5, idle=0, overflow=0), 5, 100.0, "warning"),
        (_pool(5, out=7, idle=0, overflow=2), 7, 100.0, "warning"),
        (_pool(10, out=9, idle=1, overflow=0), 10, 90.0, "warning"),
        (_pool(0), 0, 0.0, "healthy"),
    ],
)
async def test_capacity_is_size_and_overflow(pool: Any, capacity: int, percent: float, status: str) -> None:
    """A negative overflow, of a pool that is not full yet, takes nothing off."""
    report = await DatabaseHealthChecker(_double(pool), "svc").check_connection_pool_health()
    assert (report["total_capacity"], report["utilization_percent"], report["status"]) == (capacity, percent, status)
    assert set(report) >= {"invalid_connections", "pool_type", "warnings", "overflow_connections", "timestamp"}


def test_a_pool_that_tells_nothing_has_zeros() -> None:
    """Any object gives a status."""
    assert set(get_pool_status_safe(object()).values()) == {0}


async def test_slow_answers_are_a_warning() -> None:
    """More than a second for the trivial query, more than five for the other."""
    ticks = iter([0.0, 1.5, 2.0, 8.0])
    checker = DatabaseHealthChecker(_double(_pool(5)), "svc", clock=lambda: next(ticks))
    report = await checker.check_query_performance()
    assert report["status"] == "warning"
    assert report["warnings"] == [
        "the simple query took 1.50 s, more than 1 s",
        "the complex query took 6.00 s, more than 5 s",
    ]


async def test_a_hanging_database_costs_the_time_limit_and_no_more() -> None:
    """Even a connection that ignores its cancellation; after five of those no further one is started."""
    started = 0
    release = asyncio.Event()

    async def hang(*_: Any) -> None:
        nonlocal started
        started += 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    connection = Mock()
    connection.execute = hang
    checker = DatabaseHealthChecker(_double(_pool(5), connection), "svc")
    began = time.monotonic()
    for _ in range(7):
        report = await checker.check_basic_connectivity(timeout=0.05)
        assert (report["status"], report["error"]) == ("unhealthy", "Connection timeout")
    assert (await checker.check_query_performance(timeout=0.05))["status"] == "unhealthy"
    assert started == 5
    assert time.monotonic() - began < 5
    release.set()
    await asyncio.sleep(0.05)


async def test_nothing_listens() -> None:
    """A refused connection is `unhealthy` at once, in every form of the report."""
    engine = create_async_engine("postgresql+asyncpg://u:hush@127.0.0.1:1/db")
    checker = DatabaseHealthChecker(engine, "svc")
    report = await checker.comprehensive_health_check()
    assert report["overall_status"] == "unhealthy"
    assert "hush" not in json.dumps(report)
    assert (await checker.get_health_summary())["status"] == "unhealthy"


@pytest.mark.integration
async def test_a_healthy_database(engine: AsyncEngine, service: str) -> None:
    """All checks are healthy, and none of them touches the service's pool."""
    setup_database_monitoring(engine, service)
    report = await DatabaseHealthChecker(engine, service).comprehensive_health_check()
    assert (report["overall_status"], report["warnings"]) == ("healthy", [])
    resources = report["checks"]["database_resources"]
    assert resources["database_size"].endswith("B")
    assert resources["long_running_queries"] == 0
    assert sample(f"{service}_database_connections_acquired_total") == 0
    assert engine.pool.checkedin() == 0  # type: ignore[attr-defined]


@pytest.mark.integration
async def test_an_exhausted_pool_is_busy_and_not_dead(engine: AsyncEngine, service: str) -> None:
    """With every connection in use and a caller waiting the database is connected, and the pool says why it stalls."""
    setup_database_monitoring(engine, service)
    checker = DatabaseHealthChecker(engine, service)

    async def wait() -> None:
        async with engine.connect():
            pass

    async with engine.connect(), engine.connect(), engine.connect():
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0.05)
        summary = await checker.get_health_summary()
        report = await checker.comprehensive_health_check()
        waiting.cancel()
    assert (summary["connectivity"], summary["status"], summary["pool_utilization_percent"]) == (True, "warning", 100.0)
    assert report["overall_status"] == "warning"
    (warning,) = report["checks"]["connection_pool"]["warnings"]
    assert warning.startswith("the pool is exhausted: 3 of 3 connections are in use, 1 callers wait")


@pytest.mark.integration
async def test_a_full_server_is_no_outage_for_a_pool_with_connections(make_engine: MakeEngine, service: str) -> None:
    """When the server takes no further connection an idle one of the pool is asked."""
    admin = make_engine()
    async with admin.begin() as connection:
        await connection.execute(text(f'CREATE ROLE "{service}" LOGIN CONNECTION LIMIT 1'))
    engine = create_async_engine(admin.url.set(username=service, password=None), pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
        assert (await DatabaseHealthChecker(engine, service).get_health_summary())["status"] == "healthy"
        async with engine.connect():
            report = await DatabaseHealthChecker(engine, service).check_basic_connectivity()
            assert report["status"] == "unhealthy"
            assert "too many connections" in report["error"]
    finally:
        await engine.dispose()
        async with admin.begin() as connection:
            await connection.execute(text(f'DROP ROLE "{service}"'))


@pytest.mark.integration
def _waits_for_long(report: dict[str, Any]) -> bool:
    ages = [session["age_seconds"] for session in report["long_running"]]
    return len(ages) == 2 and min(ages) >= 0.3 and bool(report["lock_waits"])


async def test_a_long_query_and_a_lock_wait_are_found(make_engine: MakeEngine) -> None:
    """Named by pid, application and age, with their SQL but no values, and by whom they are blocked."""
    engine = make_engine(connect_args={"server_settings": {"application_name": "grader"}})
    checker = DatabaseHealthChecker(engine, "svc", long_query_seconds=0.2)
    async with engine.begin() as holder:
        await holder.execute(text("CREATE TABLE essays (id int, title text)"))
    holder_pid = text("SELECT pg_backend_pid()")

    async def update() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE essays SET title = 'geheim'"))

    async with engine.begin() as holder:
        pid = (await holder.execute(holder_pid)).scalar_one()
        await holder.execute(text("LOCK TABLE essays"))
        waiting = asyncio.create_task(update())
        async with asyncio.timeout(20):
            while not _waits_for_long(report := await checker.check_database_resources()):
                await asyncio.sleep(0.05)
    await waiting
    assert report["status"] == "warning"
    assert report["long_running_queries"] == 2
    holding, blocked = sorted(report["long_running"], key=lambda session: session["pid"] != pid)
    assert (holding["pid"], holding["state"], holding["application"]) == (pid, "idle in transaction", "grader")
    assert blocked["query"] == "UPDATE essays SET title = ?"
    assert blocked["age_seconds"] >= 0.3
    (wait,) = report["lock_waits"]
    assert (wait["pid"], wait["blocked_by"]) == (blocked["pid"], [pid])
    assert "geheim" not in json.dumps(report)
    assert any(f"pid {blocked['pid']} (grader) is active for" in warning for warning in report["warnings"])


@pytest.mark.integration
async def test_a_restart_is_seen_and_over(engine: AsyncEngine, postgres_server: PostgresServer) -> None:
    """Unhealthy while the server is away, healthy once it is back; the checker is the same."""
    checker = DatabaseHealthChecker(engine, "svc")
    await asyncio.to_thread(postgres_server.stop)
    try:
        assert (await checker.get_health_summary())["status"] == "unhealthy"
    finally:
        await asyncio.to_thread(postgres_server.start)
    assert (await checker.get_health_summary())["status"] == "healthy"


@pytest.mark.integration
async def test_a_silent_network_costs_the_time_limit(engine: AsyncEngine, postgres_server: PostgresServer) -> None:
    """When no byte comes back every check ends within its limit; once the network is back so is health."""
    async with FaultProxy(f"{engine.url.host}:{engine.url.port}") as proxy:
        host, port = proxy.address.split(":")
        behind = create_async_engine(engine.url.set(host=host, port=int(port)))
        checker = DatabaseHealthChecker(behind, "svc")
        assert (await checker.get_health_summary())["status"] == "healthy"
        proxy.silence()
        began = time.monotonic()
        summary = await checker.get_health_summary()
        assert (summary["status"], summary["error"]) == ("unhealthy", "Connection timeout")
        assert (await checker.check_query_performance(timeout=0.2))["status"] == "unhealthy"
        assert time.monotonic() - began < 10
        proxy.heal()
        assert (await checker.get_health_summary())["status"] == "healthy"
        await behind.dispose()
