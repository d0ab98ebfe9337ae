"""Section 7.3: a database's health, on doubles, on a real server, and where nothing answers."""

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.database.health_checks import get_pool_status_safe

CONNECTIVITY = {"status", "connectivity", "response_time_seconds", "error", "timestamp"}
POOL_FIGURES = {"pool_size", "active_connections", "idle_connections", "overflow_connections"}
POOL = POOL_FIGURES | {
    "status",
    "invalid_connections",
    "total_capacity",
    "utilization_percent",
    "pool_type",
    "warnings",
    "timestamp",
}
QUERIES = {"status", "simple_query_time_seconds", "complex_query_time_seconds", "warnings", "timestamp"}
RESOURCES = {"status", "active_connections", "database_size", "long_running_queries", "warnings", "timestamp"}
COMPREHENSIVE = {"service", "overall_status", "checks", "warnings", "timestamp"}
CHECKS = {"connectivity", "connection_pool", "query_performance", "database_resources"}
SUMMARY = {
    "service",
    "status",
    "connectivity",
    "response_time_seconds",
    "pool_utilization_percent",
    "active_connections",
    "timestamp",
}
ALL = {
    "check_basic_connectivity": CONNECTIVITY,
    "check_connection_pool_health": POOL,
    "check_query_performance": QUERIES,
    "check_database_resources": RESOURCES,
    "comprehensive_health_check": COMPREHENSIVE,
    "get_health_summary": SUMMARY,
}
SEVERITY = ("healthy", "warning", "error", "unhealthy")


def pool_of(size: Any = 5, out: int = 0) -> Any:
    """A pool's double."""
    return SimpleNamespace(size=lambda: size, checkedout=lambda: out, checkedin=lambda: 0, overflow=lambda: 0)


def double(pool: Any = None, execute: Any = None) -> Any:
    """The services' double of an engine: `begin`, `dispose` and `pool`, and of a connection `execute`."""
    engine = Mock(spec=["begin", "dispose", "pool"])
    engine.pool = pool or pool_of()
    connection = Mock(spec=["execute"])
    connection.execute = AsyncMock(side_effect=execute)

    @asynccontextmanager
    async def begin() -> AsyncIterator[Any]:
        yield connection

    engine.begin = Mock(side_effect=begin)
    return engine


def checker_of(engine: Any, **options: Any) -> DatabaseHealthChecker:
    """The checker of a service."""
    return DatabaseHealthChecker(engine, "svc", **options)


async def forever(*_: Any) -> None:
    """A query that is never answered."""
    await asyncio.Event().wait()


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database, pool_size=1, max_overflow=0)
    yield engine
    await engine.dispose()


@pytest.mark.contract("7.3-attributes")
def test_attributes() -> None:
    """Engine and name as given, by position."""
    engine = double()
    checker = DatabaseHealthChecker(engine, "svc")
    assert (checker.engine, checker.service_name) == (engine, "svc")


@pytest.mark.contract(
    "7.3-connectivity-keys",
    "7.3-pool-keys",
    "7.3-queries-keys",
    "7.3-resources-keys",
    "7.3-comprehensive-keys",
    "7.3-summary-keys",
    "7.3-json",
)
@pytest.mark.parametrize(("method", "keys"), ALL.items())
async def test_answers_of_a_real_database(engine: AsyncEngine, method: str, keys: set[str]) -> None:
    """All keys, healthy, plain JSON, and the time of day."""
    before = time.time()
    answer = await getattr(checker_of(engine), method)()
    assert set(answer) >= keys
    assert answer.get("status", answer.get("overall_status")) == "healthy"
    assert json.loads(json.dumps(answer)) == answer
    assert before <= answer["timestamp"] <= time.time()
    if method == "comprehensive_health_check":
        assert (set(answer["checks"]), answer["service"], answer["warnings"]) == (CHECKS, "svc", [])
    if method == "check_basic_connectivity":
        assert (answer["connectivity"], answer["error"]) == (True, None)


@pytest.mark.contract("7.3-pool-type", "7.3-pool-warning", "7.3-summary-states")
async def test_an_exhausted_pool(engine: AsyncEngine) -> None:
    """The one connection is in use: a warning that says so, and the database is still known to answer."""
    checker = checker_of(engine)
    async with engine.connect():
        pool = await checker.check_connection_pool_health()
        summary = await checker.get_health_summary()
    assert (pool["status"], pool["utilization_percent"], pool["total_capacity"]) == ("warning", 100, 1)
    assert [type(one) for one in pool["warnings"]] == [str]
    assert isinstance(engine.pool, QueuePool)
    assert pool["pool_type"] == type(engine.pool).__name__
    assert (summary["status"], summary["connectivity"], summary["active_connections"]) == ("warning", True, 1)
    assert (await checker.check_connection_pool_health())["warnings"] == []


@pytest.mark.contract("7.3-summary-states")
@pytest.mark.parametrize(("out", "status"), [(0, "healthy"), (95, "healthy"), (96, "warning")])
async def test_the_summary_beside_95_percent(out: int, status: str) -> None:
    """A warning begins above 95 % utilisation."""
    summary = await checker_of(double(pool_of(100, out))).get_health_summary()
    assert (summary["status"], summary["pool_utilization_percent"]) == (status, out)


@pytest.mark.contract("7.3-connectivity-timeout", "7.3-queries-timeout")
async def test_a_database_that_does_not_answer() -> None:
    """After the time: not connected, with the contract's text, and queries are unhealthy."""
    checker = checker_of(double(execute=forever))
    answer = await checker.check_basic_connectivity(timeout=0.05)
    assert (answer["status"], answer["connectivity"], answer["error"]) == ("unhealthy", False, "Connection timeout")
    assert (await checker.check_query_performance(timeout=0.05))["status"] == "unhealthy"


@pytest.mark.contract("7.3-summary-timeout")
async def test_the_summary_waits_two_seconds() -> None:
    """Two seconds are its own time for a connection."""
    since = time.monotonic()
    summary = await checker_of(double(execute=forever)).get_health_summary()
    assert summary["status"] == "unhealthy"
    assert 1.9 <= time.monotonic() - since < 4.9  # the time of other checks is 5 s


@pytest.mark.contract("7.3-connectivity-error", "7.3-queries-timeout", "7.3-begin-raises")
async def test_begin_that_raises() -> None:
    """The error's text is told; a summary is unhealthy, queries are an error."""
    engine = double()
    engine.begin.side_effect = ConnectionError("gone fishing")
    checker = checker_of(engine)
    answer = await checker.check_basic_connectivity()
    assert (answer["status"], answer["connectivity"]) == ("unhealthy", False)
    assert "gone fishing" in answer["error"]
    assert (await checker.get_health_summary())["status"] == "unhealthy"
    assert (await checker.check_query_performance())["status"] == "error"


@pytest.mark.contract("7.3-begin-only", "7.3-size-not-callable")
async def test_the_services_double_is_enough() -> None:
    """`begin` and `execute` are all that is asked; a `size` that cannot be called costs only the figures."""
    engine = double(SimpleNamespace(size=5))
    checker = checker_of(engine)
    assert (await checker.check_basic_connectivity())["status"] == "healthy"
    engine.begin.assert_called()
    engine.dispose.assert_not_called()
    summary = await checker.get_health_summary()
    assert summary["status"] in {"healthy", "warning"}
    assert summary["connectivity"] is True
    told = await checker_of(double(pool_of(5, 2))).check_connection_pool_health()
    assert (told["status"], told["pool_size"], told["active_connections"]) == ("healthy", 5, 2)


@pytest.mark.contract("7.3-pool-error")
async def test_an_engine_without_a_pool() -> None:
    """Three keys say that it went wrong."""
    answer = await checker_of(Mock(spec=["begin", "dispose"])).check_connection_pool_health()
    assert set(answer) == {"status", "error", "timestamp"}
    assert answer["status"] == "error"


@pytest.mark.contract("7.3-queries-slow")
@pytest.mark.parametrize(
    ("simple", "other", "status"), [(0.0, 1.2, "healthy"), (1.2, 0.0, "warning"), (0.0, 5.2, "warning")]
)
async def test_slow_queries(simple: float, other: float, status: str) -> None:
    """One second for the first query, five for the second; a warning names what was slow. In real time."""
    took = [simple, other]

    async def execute(*_: Any) -> None:
        await asyncio.sleep(took.pop(0))

    answer = await checker_of(double(execute=execute)).check_query_performance()
    assert (answer["status"], bool(answer["warnings"])) == (status, status == "warning")
    assert answer["simple_query_time_seconds"] == pytest.approx(simple, abs=0.7)
    assert answer["complex_query_time_seconds"] == pytest.approx(other, abs=2)


@pytest.mark.contract("7.3-resources-long-queries")
async def test_long_queries(engine: AsyncEngine, postgres_database: str) -> None:
    """A query beyond the limit makes a warning; the limit is five minutes unless a test says otherwise."""
    # Nobody waits five minutes for a test: the limit is an option of ours.
    assert inspect.signature(DatabaseHealthChecker).parameters["long_query_seconds"].default == 300
    other = create_async_engine(postgres_database)
    async with other.connect() as connection:
        sleeping = asyncio.ensure_future(connection.execute(text("SELECT pg_sleep(30)")))
        assert (await checker_of(engine).check_database_resources())["status"] == "healthy"
        async with asyncio.timeout(20):
            while True:
                answer = await checker_of(engine, long_query_seconds=0.1).check_database_resources()
                if answer["status"] == "warning":
                    break
                await asyncio.sleep(0.1)
        sleeping.cancel()
        await asyncio.gather(sleeping, return_exceptions=True)
    await other.dispose()
    assert answer["status"] == "warning"
    assert answer["long_running_queries"] >= 1
    assert answer["warnings"]
    assert isinstance(answer["database_size"], str)


@pytest.mark.contract("7.3-resources-unavailable")
async def test_a_catalog_that_cannot_be_asked() -> None:
    """The size is "unavailable", and the answer is no exception."""
    answer = await checker_of(double(execute=PermissionError("no"))).check_database_resources()
    assert answer["database_size"] == "unavailable"
    assert answer["status"] == "error"


@pytest.mark.contract("7.3-comprehensive-worst")
@pytest.mark.parametrize("worst", SEVERITY)
async def test_the_worst_counts(monkeypatch: pytest.MonkeyPatch, worst: str) -> None:
    """Of four checks the worst decides, and all their warnings are there."""
    statuses = [one for one in SEVERITY if SEVERITY.index(one) <= SEVERITY.index(worst)]
    statuses = (statuses * 4)[:4] if worst != "healthy" else ["healthy"] * 4
    names = [name for name in ALL if name.startswith("check_")]
    checker = checker_of(double())
    for name, status in zip(names, statuses, strict=True):
        monkeypatch.setattr(checker, name, AsyncMock(return_value={"status": status, "warnings": [name]}))
    answer = await checker.comprehensive_health_check()
    assert answer["overall_status"] == worst
    assert sorted(answer["warnings"]) == sorted(names)


@pytest.mark.contract("7.3-never-raises", "7.3-json")
@pytest.mark.parametrize(
    "make",
    [
        lambda: create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none"),
        Mock,
        object,
        lambda: double(execute=RuntimeError("x")),
    ],
    ids=["unreachable", "Mock", "object", "failing"],
)
async def test_nothing_raises(make: Callable[[], Any]) -> None:
    """Whatever stands in the place of an engine, every check answers in JSON."""
    checker = checker_of(make())
    for method in ALL:
        answer = await getattr(checker, method)()
        assert json.loads(json.dumps(answer)) == answer


@pytest.mark.contract("7.3-pool-status-safe")
@pytest.mark.parametrize("pool", [None, object(), pool_of("x"), pool_of(3, 2)])
def test_the_figures_of_any_pool(pool: Any) -> None:
    """Four figures, 0 where there is none."""
    found = get_pool_status_safe(pool)
    assert set(found) == POOL_FIGURES
    assert found["pool_size"] == (3 if isinstance(pool, SimpleNamespace) and pool.size() == 3 else 0)
