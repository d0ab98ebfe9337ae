"""Times every statement and transaction of an engine by SQLAlchemy's events, so that nobody has to decorate.

Tells metrics, the slow-query log and spans. Shapes of statements are bounded here, for all of them.
"""

from contextvars import ContextVar
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs.database.conditions import condition_of, sqlstate_of
from huleedu_service_libs.database.connection_monitoring import PROBING
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.database.engines import root_engine, server_of
from huleedu_service_libs.database.settings import DatabaseMonitoringConfig
from huleedu_service_libs.database.slow_queries import SlowQueryLog
from huleedu_service_libs.database.spans import StatementSpans
from huleedu_service_libs.database.sql import Shape, shape_of
from huleedu_service_libs.database.survived import note_survived

__all__ = ["TABLES_SEEN", "watch_statements"]

TABLES_SEEN: ContextVar[list[str] | None] = ContextVar("huleedu_database_tables_seen", default=None)
"""Where the tables of statements are noted, for a tracker that was told none."""

_SINCE = "_huleedu_since"
_BEGUN = "_huleedu_begun"
_OTHER_TABLE = "other"

_watches: "WeakKeyDictionary[Engine, _StatementWatch]" = WeakKeyDictionary()


def watch_statements(
    engine: AsyncEngine | Engine, metrics: EngineMetrics, config: DatabaseMonitoringConfig | None = None
) -> None:
    """Watch the engine's statements for ``metrics``. May be called repeatedly; nothing is counted twice."""
    root = root_engine(engine)
    watch = _watches.get(root)
    if watch is None:
        watch = _watches[root] = _StatementWatch(root, config or DatabaseMonitoringConfig())
        if watch.config.statements:
            watch.listen(root)
    elif config is not None and config != watch.config:
        was_listening = watch.config.statements
        watch.configure(root, config)
        if config.statements and not was_listening:
            watch.listen(root)
    watch.metrics[metrics.service_name] = metrics


class _StatementWatch:
    """The listeners of one engine. Holds no engine, for the engine holds its listeners."""

    def __init__(self, engine: Engine, config: DatabaseMonitoringConfig, clock: Clock = monotonic) -> None:
        self.metrics: dict[str, EngineMetrics] = {}
        self._clock = clock
        self._tables: set[str] = set()
        self._listening = False
        self.configure(engine, config)

    def configure(self, engine: Engine, config: DatabaseMonitoringConfig) -> None:
        self.config = config
        self._slow = SlowQueryLog(engine, config)
        self._spans = StatementSpans(server_of(engine))

    def listen(self, engine: Engine) -> None:
        if self._listening:
            return
        self._listening = True
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "handle_error", self._on_error)
        event.listen(engine, "begin", self._on_begin)
        event.listen(engine, "commit", self._on_commit)
        event.listen(engine, "rollback", self._on_rollback)

    def _before(self, _c: Any, _cursor: Any, _statement: str, _parameters: Any, context: Any, _many: bool) -> None:  # noqa: FBT001  # SQLAlchemy's signature
        if context is not None:
            setattr(context, _SINCE, self._clock())

    def _after(self, _c: Any, _cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:  # noqa: FBT001  # as above
        since = getattr(context, _SINCE, None)
        if since is None or not self.config.statements:
            return
        try:
            self._told(statement, self._clock() - since, None, None if many else parameters)
        except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("statements", error)

    def _on_error(self, context: Any) -> None:
        if PROBING.get() or not self.config.statements:
            return
        try:
            if context.statement is None:
                self._count_error(
                    "connect" if context.connection is None else "transaction", context.original_exception
                )
                return
            since = getattr(context.execution_context, _SINCE, None)
            seconds = 0.0 if since is None else self._clock() - since
            self._told(context.statement, seconds, context.original_exception, None)
        except Exception as error:  # noqa: BLE001  # as above
            note_survived("statements", error)

    def _told(self, statement: str, seconds: float, error: BaseException | None, parameters: Any) -> None:
        shape = self._bounded(shape_of(statement))
        seen = TABLES_SEEN.get()
        if seen is not None and not seen:
            seen.append(shape.table)
        for metrics in self.metrics.values():
            metrics.observe_statement(shape, seconds, "success" if error is None else "error")
        if error is not None:
            self._count_error(shape.operation, error)
        if seconds >= self.config.slow_statement_seconds:
            self._slow.note(statement, shape, seconds, parameters)
            for metrics in self.metrics.values():
                metrics.count_slow(shape)
        if self.config.spans and self._spans.wanted():
            ended = time_ns()
            self._spans.record(statement, shape, ended - int(seconds * 1e9), ended, error)

    def _count_error(self, operation: str, error: BaseException) -> None:
        condition = condition_of(sqlstate_of(error), error)
        for metrics in self.metrics.values():
            metrics.count_error(operation, condition)

    def _bounded(self, shape: Shape) -> Shape:
        if shape.table in self._tables:
            return shape
        if len(self._tables) < self.config.max_tables:
            self._tables.add(shape.table)
            return shape
        return Shape(shape.operation, _OTHER_TABLE)

    def _on_begin(self, connection: Any) -> None:
        try:
            if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
                setattr(connection, _BEGUN, self._clock())
        except Exception as error:  # noqa: BLE001  # as above
            note_survived("transactions", error)

    def _on_commit(self, connection: Any) -> None:
        self._on_end(connection, "commit")

    def _on_rollback(self, connection: Any) -> None:
        self._on_end(connection, "rollback")

    def _on_end(self, connection: Any, outcome: str) -> None:
        try:
            # On the connection object: the pooled connection's own notes are out of reach once it is broken.
            since = getattr(connection, _BEGUN, None)
            if since is not None and self.config.statements:
                setattr(connection, _BEGUN, None)
                for metrics in self.metrics.values():
                    metrics.observe_transaction(outcome, self._clock() - since)
        except Exception as error:  # noqa: BLE001  # as above
            note_survived("transactions", error)
