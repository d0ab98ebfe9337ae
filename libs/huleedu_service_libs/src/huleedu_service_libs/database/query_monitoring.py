"""Times what a service itself calls a query or a transaction: decorators and context managers.

Statements are timed anyhow (``setup_database_monitoring``); these give a name to a piece of work of several
statements. Figures go to a port; a failing one is survived.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._scopes import restore
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
from huleedu_service_libs.database.statements import TABLES_SEEN
from huleedu_service_libs.database.survived import note_survived

__all__ = ["QueryPerformanceTracker", "query_performance_tracker", "transaction_performance_tracker"]

F = TypeVar("F", bound=Callable[..., Any])

_UNKNOWN = "unknown"


def query_performance_tracker(
    metrics: DatabaseMetricsProtocol | None,
    operation: str,
    table: str | None = None,
    method_name: str | None = None,
) -> Callable[[F], F]:
    """Decorate a function that queries: its duration, and the class of the error that it raises, are recorded.

    The error passes. Coroutine functions and plain functions.

    Args:
        metrics: Where to record; None records nothing.
        operation: Label, for example ``select``.
        table: Label; when left out, the first table that a statement inside names on a watched engine, or ``unknown``.
        method_name: In place of the function's name where an error is counted: ``<operation>.<method_name>``.
    """
    name = f"{operation}.{method_name}" if method_name else operation
    return _decorator(lambda: _timed_query(metrics, operation, table, name))


def transaction_performance_tracker(
    metrics: DatabaseMetricsProtocol | None, operation: str, description: str | None = None
) -> Callable[[F], F]:
    """Decorate a function that is one transaction: its duration and the class of its error are recorded.

    Args:
        metrics: Where to record; None records nothing.
        operation: Label.
        description: For readers of the code.
    """
    del description
    return _decorator(lambda: _timed_transaction(metrics, operation))


class QueryPerformanceTracker:
    """The same for blocks of code.

    Args:
        metrics: Where to record; None records nothing.
        service_name: Whose.
    """

    def __init__(self, metrics: DatabaseMetricsProtocol | None, service_name: str) -> None:
        self.metrics = metrics
        self.service_name = service_name

    @asynccontextmanager
    async def track_query(
        self,
        operation: str,
        table: str | None = None,
        query_description: str | None = None,  # noqa: ARG002  # for readers of the code
    ) -> AsyncIterator[None]:
        """Time the block as a query; its error passes.

        Args:
            operation: What it does: ``select``, ``insert`` and so on; the label of metrics.
            table: Where; by default the first that a statement inside names on a watched engine, or ``unknown``.
            query_description: For readers of the code.
        """
        with _timed_query(self.metrics, operation, table, operation):
            yield

    @asynccontextmanager
    async def track_transaction(
        self,
        operation: str,
        description: str | None = None,  # noqa: ARG002  # for readers of the code
    ) -> AsyncIterator[None]:
        """Time the block as a transaction; its error passes.

        Args:
            operation: What it is for; the label of metrics.
            description: For readers of the code.
        """
        with _timed_transaction(self.metrics, operation):
            yield

    def wrap_repository_method(
        self, operation: str, table: str | None = None, method_name: str | None = None
    ) -> Callable[[F], F]:
        """As `query_performance_tracker`, with the metrics of this tracker."""
        return query_performance_tracker(self.metrics, operation, table, method_name)


def _decorator(timed: Callable[[], Any]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        if iscoroutinefunction(function):

            @wraps(function)
            async def run(*args: Any, **kwargs: Any) -> Any:
                with timed():
                    return await function(*args, **kwargs)

            return cast("F", run)

        @wraps(function)
        def run_plainly(*args: Any, **kwargs: Any) -> Any:
            with timed():
                return function(*args, **kwargs)

        return cast("F", run_plainly)

    return decorate


@contextmanager
def _timed_query(
    metrics: DatabaseMetricsProtocol | None, operation: str, table: str | None, name: str, clock: Clock = monotonic
) -> Iterator[None]:
    seen: list[str] = []
    token = TABLES_SEEN.set(seen) if table is None else None

    def note(port: DatabaseMetricsProtocol, took: float, success: bool) -> None:  # noqa: FBT001  # only `_timed` calls it
        label = table or (seen[0] if seen else _UNKNOWN)
        port.record_query_duration(operation=operation, table=label, duration=took, success=success)

    try:
        with _timed(metrics, name, note, clock):
            yield
    finally:
        if token is not None:
            restore(TABLES_SEEN, token)


@contextmanager
def _timed_transaction(
    metrics: DatabaseMetricsProtocol | None, operation: str, clock: Clock = monotonic
) -> Iterator[None]:
    def note(port: DatabaseMetricsProtocol, took: float, success: bool) -> None:  # noqa: FBT001  # only `_timed` calls it
        port.record_transaction_duration(operation=operation, duration=took, success=success)

    with _timed(metrics, operation, note, clock):
        yield


@contextmanager
def _timed(
    metrics: DatabaseMetricsProtocol | None,
    operation: str,
    note: Callable[[DatabaseMetricsProtocol, float, bool], None],
    clock: Clock,
) -> Iterator[None]:
    """Record the error of the block, if there is one, and note how long it took."""
    since, success = clock(), False
    try:
        yield
        success = True
    except Exception as error:
        kind = type(error).__name__
        _record(metrics, lambda port: port.record_database_error(kind, operation))
        raise
    finally:
        took = clock() - since
        _record(metrics, lambda port: note(port, took, success))


def _record(metrics: DatabaseMetricsProtocol | None, how: Callable[[DatabaseMetricsProtocol], None]) -> None:
    if metrics is None:
        return
    try:
        how(metrics)
    except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
        note_survived("tracker", error)
