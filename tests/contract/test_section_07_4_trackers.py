"""Sections 7.4 and 7.5: queries and transactions that a service times itself, and what puts that around its repositories."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import pytest

from huleedu_service_libs.database import DatabaseMetricsProtocol, QueryPerformanceTracker, query_performance_tracker
from huleedu_service_libs.database.middleware import (
    DatabaseInfrastructureEnhancer,
    DatabaseMetricsMiddleware,
    create_infrastructure_enhancer,
    create_repository_middleware,
)
from huleedu_service_libs.database.query_monitoring import transaction_performance_tracker

SESSION: Any = "session"


@pytest.fixture(name="metrics")
def _metrics() -> Mock:
    return Mock(spec=DatabaseMetricsProtocol)


@asynccontextmanager
async def _session() -> AsyncIterator[Any]:
    yield SESSION


def queries(metrics: Mock) -> list[tuple[str, str, bool]]:
    """Operation, table and success of what was observed."""
    calls = metrics.record_query_duration.call_args_list
    assert all(one.kwargs["duration"] >= 0 for one in calls)
    return [(one.kwargs["operation"], one.kwargs["table"], one.kwargs["success"]) for one in calls]


def transactions(metrics: Mock) -> list[tuple[str, bool]]:
    """Operation and success of what was observed."""
    calls = metrics.record_transaction_duration.call_args_list
    return [(one.kwargs["operation"], one.kwargs["success"]) for one in calls]


async def work(*, fails: bool = False) -> str:
    """Find something."""
    if fails:
        raise KeyError("x")
    return "found"


Decorate = Callable[[Mock], Callable[..., Any]]
OF_A_QUERY: list[Decorate] = [
    lambda metrics: query_performance_tracker(metrics, "select", "essays"),
    lambda metrics: query_performance_tracker(metrics=metrics, operation="select", table="essays", method_name="m"),
    lambda metrics: QueryPerformanceTracker(metrics, "svc").wrap_repository_method("select", "essays"),
    lambda metrics: DatabaseMetricsMiddleware(Mock(), metrics).repository_method_tracker("select", "essays"),
]


@pytest.mark.contract(
    "7.4-query-decorator",
    "7.4-query-decorator-error",
    "7.4-wrap-repository-method",
    "7.4-keeps-the-name",
    "7.5-repository-method",
)
@pytest.mark.parametrize("decorate", OF_A_QUERY, ids=["plain", "keywords", "tracker", "middleware"])
async def test_a_decorated_query(metrics: Mock, decorate: Decorate) -> None:
    """Result, error, name and docstring pass; both calls are observed, and the error by its class."""
    timed = decorate(metrics)(work)
    assert (timed.__name__, timed.__doc__) == ("work", "Find something.")
    assert await timed() == "found"
    metrics.record_database_error.assert_not_called()
    with pytest.raises(KeyError):
        await timed(fails=True)
    assert queries(metrics) == [("select", "essays", True), ("select", "essays", False)]
    (error,) = metrics.record_database_error.call_args_list
    assert error.args[0] == "KeyError"


@pytest.mark.contract("7.4-transaction-decorator")
async def test_a_decorated_transaction(metrics: Mock) -> None:
    """As with queries, in the metrics of transactions."""
    timed = transaction_performance_tracker(metrics, "store", "essays and their grades")(work)
    assert await timed() == "found"
    with pytest.raises(KeyError):
        await timed(fails=True)
    assert transactions(metrics) == [("store", True), ("store", False)]
    metrics.record_database_error.assert_called_once_with("KeyError", "store")
    metrics.record_query_duration.assert_not_called()


@pytest.mark.contract("7.4-track-query")
async def test_blocks(metrics: Mock) -> None:
    """A block is timed as a query or a transaction, and its error passes."""
    tracker = QueryPerformanceTracker(metrics, "svc")
    async with tracker.track_query("select", "essays", "by id"), tracker.track_transaction("store", "both"):
        pass
    with pytest.raises(KeyError):
        async with tracker.track_query(operation="select", table="essays"):
            raise KeyError
    with pytest.raises(KeyError):
        async with tracker.track_transaction("store"):
            raise KeyError
    assert queries(metrics) == [("select", "essays", True), ("select", "essays", False)]
    assert transactions(metrics) == [("store", True), ("store", False)]


@pytest.mark.contract("7.5-session-with-metrics", "7.5-session-factory", "7.5-factories")
async def test_sessions_are_transactions(metrics: Mock) -> None:
    """The session is the factory's; the operation is the default's or the caller's."""
    middleware = create_repository_middleware(Mock(), metrics)
    enhancer = create_infrastructure_enhancer(metrics)
    assert isinstance(middleware, DatabaseMetricsMiddleware)
    assert isinstance(enhancer, DatabaseInfrastructureEnhancer)
    async with middleware.session_with_metrics(_session) as session:
        assert session is SESSION
    async with enhancer.enhance_session_factory(_session)() as session:
        assert session is SESSION
    with pytest.raises(KeyError):
        async with middleware.session_with_metrics(_session, "grading"):
            raise KeyError
    assert transactions(metrics) == [("database_operation", True), ("database_session", True), ("grading", False)]


OPERATIONS = {
    "select": "get find fetch select retrieve",
    "insert": "create insert add store",
    "update": "update modify change set",
    "delete": "delete remove drop",
    "unknown": "count",
}


@pytest.mark.contract("7.5-repository-class", "7.5-operation-of-a-name")
@pytest.mark.parametrize(("operation", "verbs"), OPERATIONS.items())
async def test_a_repository_class(metrics: Mock, operation: str, verbs: str) -> None:
    """Each public method is timed as its name says, under its table; private ones are left alone."""
    names = [f"{verb}_essay" for verb in verbs.split()]

    async def method(self: Any, number: int) -> int:
        return number

    repository = type("Repository", (), {**dict.fromkeys(names, method), "_private": method})
    wrapped = DatabaseMetricsMiddleware(Mock(), metrics).wrap_repository_class(
        repository, dict.fromkeys(names, "essays")
    )
    made: Any = wrapped()
    assert issubclass(wrapped, repository)
    for name in names:
        assert await getattr(made, name)(7) == 7
    assert await made._private(8) == 8
    assert queries(metrics) == [(operation, "essays", True)] * len(names)
