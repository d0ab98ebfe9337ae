"""Puts the trackers around sessions and repositories, for services that want names of their own on their work."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import getmembers_static, iscoroutinefunction
from typing import Any, TypeVar, overload

from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from huleedu_service_libs.database.connection_monitoring import ConnectionPoolMonitor
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
from huleedu_service_libs.database.query_monitoring import QueryPerformanceTracker, query_performance_tracker

__all__ = [
    "DatabaseInfrastructureEnhancer",
    "DatabaseMetricsMiddleware",
    "create_infrastructure_enhancer",
    "create_repository_middleware",
]

C = TypeVar("C", bound=type[Any])
F = TypeVar("F", bound=Callable[..., Any])
SessionFactory = Callable[[], AbstractAsyncContextManager[AsyncSession]]

_OPERATIONS = {
    "select": ("get", "find", "fetch", "select", "retrieve"),
    "insert": ("create", "insert", "add", "store"),
    "update": ("update", "modify", "change", "set"),
    "delete": ("delete", "remove", "drop"),
}


class DatabaseMetricsMiddleware:
    """Times sessions, repository methods and whole repositories.

    Args:
        engine: Of the service.
        metrics: Where to record.
        connection_monitor: Of the engine, for whoever wants its figures.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        metrics: DatabaseMetricsProtocol,
        connection_monitor: ConnectionPoolMonitor | None = None,
    ) -> None:
        self.engine = engine
        self.metrics = metrics
        self.connection_monitor = connection_monitor

    @asynccontextmanager
    async def session_with_metrics(
        self, session_factory: SessionFactory, operation_name: str = "database_operation"
    ) -> AsyncIterator[AsyncSession]:
        """A session, timed as one transaction; it neither commits nor rolls back beyond what the session does.

        Args:
            session_factory: Makes the session.
            operation_name: Label of the transaction's metrics.
        """
        async with _timed(self.metrics, session_factory, operation_name) as session:
            yield session

    def repository_method_tracker(
        self, operation: str, table: str | None = None, method_name: str | None = None
    ) -> Callable[[F], F]:
        """As `query_performance_tracker`, with these metrics."""
        return query_performance_tracker(self.metrics, operation, table, method_name)

    @overload
    def wrap_repository_class(self, repository_class: C, table_mapping: Mapping[str, str] | None = None) -> C: ...
    @overload
    def wrap_repository_class(
        self, repository_class: None = None, table_mapping: Mapping[str, str] | None = None
    ) -> Callable[[C], C]: ...
    def wrap_repository_class(
        self, repository_class: Any = None, table_mapping: Mapping[str, str] | None = None
    ) -> Any:
        """A subclass whose public coroutine methods are timed; the class itself stays as it is.

        Called with the class, or as a decorator: ``@middleware.wrap_repository_class`` and
        ``@middleware.wrap_repository_class(table_mapping={...})``.

        Args:
            repository_class: The class.
            table_mapping: Table by method name. Of other methods the table is taken from their first statement.
        """
        if repository_class is None:
            return lambda given: self.wrap_repository_class(given, table_mapping)
        return self._subclass(repository_class, table_mapping or {})

    def _subclass(self, repository_class: type[Any], tables: Mapping[str, str]) -> type[Any]:
        timed = {
            name: self.repository_method_tracker(_operation_of(name), tables.get(name), name)(method)
            for name, method in getmembers_static(repository_class)
            if not name.startswith("_") and iscoroutinefunction(method)
        }
        namespace = {
            "__module__": repository_class.__module__,
            "__qualname__": repository_class.__qualname__,
            "__doc__": repository_class.__doc__,
        }
        kind: Callable[..., type[Any]] = type(repository_class)
        return kind(repository_class.__name__, (repository_class,), {**namespace, **timed})


class DatabaseInfrastructureEnhancer:
    """Makes session factories that time their sessions.

    Args:
        metrics: Where to record.
    """

    def __init__(self, metrics: DatabaseMetricsProtocol) -> None:
        self.metrics = metrics

    def enhance_session_factory(
        self, factory: SessionFactory, operation_name: str = "database_session"
    ) -> SessionFactory:
        """A factory of the same sessions, each timed as one transaction: ``async with factory() as session``."""
        return lambda: _timed(self.metrics, factory, operation_name)


def create_repository_middleware(
    engine: AsyncEngine, metrics: DatabaseMetricsProtocol, connection_monitor: ConnectionPoolMonitor | None = None
) -> DatabaseMetricsMiddleware:
    """A `DatabaseMetricsMiddleware`, which takes the same arguments."""
    return DatabaseMetricsMiddleware(engine, metrics, connection_monitor)


def create_infrastructure_enhancer(metrics: DatabaseMetricsProtocol) -> DatabaseInfrastructureEnhancer:
    """An enhancer for session factories."""
    return DatabaseInfrastructureEnhancer(metrics)


@asynccontextmanager
async def _timed(
    metrics: DatabaseMetricsProtocol, factory: SessionFactory, operation: str
) -> AsyncIterator[AsyncSession]:
    async with QueryPerformanceTracker(metrics, "").track_transaction(operation), factory() as session:
        yield session


def _operation_of(method: str) -> str:
    return next((operation for operation, verbs in _OPERATIONS.items() if method.startswith(verbs)), "unknown")
