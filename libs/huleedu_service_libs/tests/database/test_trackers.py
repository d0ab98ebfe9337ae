"""Decorators, context managers, sessions and repositories with names of the service's own."""

from unittest.mock import AsyncMock, Mock, call

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from huleedu_service_libs.database import (
    DatabaseMetrics,
    DatabaseMetricsProtocol,
    QueryPerformanceTracker,
    query_performance_tracker,
    setup_database_monitoring,
    transaction_performance_tracker,
)
from huleedu_service_libs.database.middleware import (
    DatabaseMetricsMiddleware,
    create_infrastructure_enhancer,
    create_repository_middleware,
)
from huleedu_service_libs.database.statements import TABLES_SEEN

from .figures import sample


@pytest.fixture(name="metrics")
def _metrics() -> AsyncMock:
    return AsyncMock(spec=DatabaseMetricsProtocol)


async def test_a_decorated_query_is_timed_and_stays_what_it_was(metrics: AsyncMock) -> None:
    """Result, name and docstring are the function's own."""

    @query_performance_tracker(metrics, "select", "essays", "find")
    async def find(number: int) -> int:
        """Find it."""
        return number + 1

    assert await find(1) == 2
    assert (find.__name__, find.__doc__) == ("find", "Find it.")
    (recorded,) = metrics.record_query_duration.call_args_list
    assert (recorded.kwargs["operation"], recorded.kwargs["table"], recorded.kwargs["success"]) == (
        "select",
        "essays",
        True,
    )
    assert 0 <= recorded.kwargs["duration"] < 5


async def test_an_error_is_recorded_by_class_and_passes(metrics: AsyncMock) -> None:
    """The query counts as failed, the error's class is recorded, the error itself arrives."""

    @query_performance_tracker(metrics, "insert", "essays")
    async def store() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await store()
    assert metrics.record_database_error.call_args == call("LookupError", "insert")
    assert metrics.record_query_duration.call_args.kwargs["success"] is False


async def test_a_transaction_is_timed(metrics: AsyncMock) -> None:
    """Decorated or as a block, with success and failure."""

    @transaction_performance_tracker(metrics, "grade", "writes the grade")
    async def grade() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await grade()
    async with QueryPerformanceTracker(metrics, "svc").track_transaction("grade", "a block"):
        pass
    outcomes = [each.kwargs["success"] for each in metrics.record_transaction_duration.call_args_list]
    assert outcomes == [False, True]


async def test_metrics_that_raise_or_are_absent_change_nothing() -> None:
    """The function's result arrives whatever the metrics do."""
    broken = Mock(spec=DatabaseMetricsProtocol)
    broken.record_query_duration.side_effect = RuntimeError("no figures today")
    for metrics in (broken, None):

        @query_performance_tracker(metrics, "select", "essays")
        async def find() -> int:
            return 7

        assert await find() == 7


async def test_a_query_inside_a_query_leaves_the_outer_ones_tables_alone(metrics: AsyncMock) -> None:
    """Each that was not told its table has the list of its own statements' tables; afterwards there is none."""

    @query_performance_tracker(metrics, "select")
    async def inner() -> list[str] | None:
        return TABLES_SEEN.get()

    @query_performance_tracker(metrics, "select")
    async def outer() -> bool:
        mine = TABLES_SEEN.get()
        return mine is not None and await inner() is not mine and TABLES_SEEN.get() is mine

    assert await outer()
    assert TABLES_SEEN.get() is None


def test_plain_functions_can_be_decorated(metrics: AsyncMock) -> None:
    """A function that is no coroutine stays one."""

    @QueryPerformanceTracker(metrics, "svc").wrap_repository_method("select", "essays")
    def find() -> int:
        return 7

    assert find() == 7
    assert metrics.record_query_duration.call_count == 1


class Essays:
    """A repository."""

    async def get_one(self) -> int:
        """One."""
        return 1

    async def archive(self) -> int:
        """What no rule guesses."""
        return await self._helper()

    async def _helper(self) -> int:
        return 2

    @staticmethod
    async def find_all() -> int:
        """A static method stays one."""
        return 3


async def test_a_repository_class_can_be_wrapped_in_three_ways(metrics: AsyncMock) -> None:
    """By a call, as a bare decorator and as one with arguments; the class itself stays as it is."""
    middleware = create_repository_middleware(Mock(), metrics)
    wrapped = middleware.wrap_repository_class(Essays, {"get_one": "essays"})
    bare = middleware.wrap_repository_class(Essays)
    with_arguments = middleware.wrap_repository_class(table_mapping={"archive": "old_essays"})(Essays)
    assert await wrapped().get_one() == 1
    assert await bare().get_one() == 1
    assert await with_arguments().archive() == 2
    assert await wrapped.find_all() == 3
    assert await Essays().get_one() == 1
    labels = [(each.kwargs["operation"], each.kwargs["table"]) for each in metrics.record_query_duration.call_args_list]
    assert labels == [("select", "essays"), ("select", "unknown"), ("unknown", "old_essays")]
    assert wrapped.__name__ == "Essays"
    assert isinstance(wrapped(), Essays)


async def test_sessions_are_timed_as_transactions(metrics: AsyncMock) -> None:
    """By the middleware, and by a factory that looks like the one it is made of."""
    session = AsyncMock(spec=AsyncSession)
    session.__aenter__.return_value = session
    middleware = DatabaseMetricsMiddleware(Mock(), metrics)
    async with middleware.session_with_metrics(lambda: session, "store") as given:
        assert given is session
    async with create_infrastructure_enhancer(metrics).enhance_session_factory(lambda: session)() as given:
        assert given is session
    operations = [each.kwargs["operation"] for each in metrics.record_transaction_duration.call_args_list]
    assert operations == ["store", "database_session"]


@pytest.mark.integration
async def test_a_table_that_was_not_named_is_the_statements(engine: AsyncEngine, service: str) -> None:
    """Without `table` the label is the first table that a statement inside names."""
    metrics: DatabaseMetrics = setup_database_monitoring(engine, service)
    sessions = async_sessionmaker(engine)

    @query_performance_tracker(metrics, "select")
    async def count() -> int:
        async with sessions() as session:
            return int((await session.execute(text("SELECT count(*) FROM essays"))).scalar_one())

    assert await count() == 2
    labels = {"operation": "select", "table": "essays", "result": "success"}
    assert sample(f"{service}_database_query_duration_seconds_count", **labels) == 1
