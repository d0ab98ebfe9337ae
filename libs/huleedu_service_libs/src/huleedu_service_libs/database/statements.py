"""Times every statement and transaction of an engine by SQLAlchemy's events, so that nobody has to decorate.

Tells metrics, the slow-query log and spans. Shapes of statements are bounded here, for all of them.
Listens to the dialect's events. Those of connections, ``before_cursor_execute`` and its kind, would cost each new
connection object more than all the rest of the watching: SQLAlchemy joins two dispatchers for it.
For a transaction's begin and end a dialect has no events; there its methods are wrapped.
"""

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import time_ns
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs.database.conditions import condition_of
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.database.engines import root_engine, server_of
from huleedu_service_libs.database.pool_watch import PROBING
from huleedu_service_libs.database.settings import DatabaseMonitoringConfig
from huleedu_service_libs.database.slow_queries import SlowQueryLog
from huleedu_service_libs.database.spans import StatementSpans
from huleedu_service_libs.database.sql import Shape, shape_of
from huleedu_service_libs.database.survived import note_survived
from huleedu_service_libs.outages import sqlstate_of

__all__ = ["TABLES_SEEN", "watch_statements"]

TABLES_SEEN: ContextVar[list[str] | None] = ContextVar("huleedu_database_tables_seen", default=None)
"""Where the tables of statements are noted, for a tracker that was told none."""

_STYLES = ("do_execute", "do_executemany", "do_execute_no_params")
_BEGUN = "huleedu_begun"
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
        dialect: Any = engine.dialect
        for name in _STYLES:
            event.listen(engine, name, self._timed(dialect, name, getattr(dialect, name)))
        event.listen(engine, "handle_error", self._on_error)
        event.listen(engine, "invalidate", self._on_invalidate)
        dialect.do_begin = self._noting_begin(dialect.do_begin)
        dialect.do_commit = self._noting_end(dialect.do_commit, "commit")
        dialect.do_rollback = self._noting_end(dialect.do_rollback, "rollback")

    def _timed(self, dialect: Any, name: str, execute: Callable[..., None]) -> Callable[..., bool | None]:
        """A listener that executes, itself, so that it knows both ends; listeners after it have their turn within."""
        dispatch = dialect.dispatch
        plannable = name == "do_execute"  # the others have no parameters, or many sets of them

        def run(cursor: Any, statement: str, *rest: Any) -> bool | None:
            if PROBING.get() or not self.config.statements:
                return None
            since = self._clock()
            try:
                listeners = getattr(dispatch, name)
                if len(listeners) == 1 or not _handled_later(listeners, run, cursor, statement, rest):
                    execute(cursor, statement, *rest)
            except BaseException as error:
                self._tell(statement, self._clock() - since, error, rest[0] if plannable else None)
                raise
            self._tell(statement, self._clock() - since, None, rest[0] if plannable else None)
            return True

        return run

    def _tell(self, statement: str, seconds: float, error: BaseException | None, parameters: Any) -> None:
        try:
            self._told(statement, seconds, error, parameters)
        except Exception as failure:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("statements", failure)

    def _on_error(self, context: Any) -> None:
        """Errors of connecting, beginning and ending; a statement's own are told where it is executed."""
        if PROBING.get() or not self.config.statements or context.statement is not None:
            return
        try:
            operation = "connect" if context.connection is None else "transaction"
            self._count_error(operation, context.original_exception)
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
        if seconds >= self.config.slow_statement_s:
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

    def _noting_begin(self, do_begin: Callable[[Any], None]) -> Callable[[Any], None]:
        def begin(connection: Any) -> None:
            do_begin(connection)
            try:
                # In autocommit mode nothing stays open between statements, however long the connection is held.
                if getattr(connection.dbapi_connection, "autocommit", None) is not True and not PROBING.get():
                    connection.info[_BEGUN] = self._clock()
            except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
                note_survived("transactions", error)

        return begin

    def _noting_end(self, do_end: Callable[[Any], None], outcome: str) -> Callable[[Any], None]:
        def end(connection: Any) -> None:
            try:
                do_end(connection)
            finally:
                self._ended(connection, outcome)

        return end

    def _on_invalidate(self, _connection: Any, record: Any, _error: BaseException | None) -> None:
        self._ended(record, "rollback")

    def _ended(self, holder: Any, outcome: str) -> None:
        try:
            since = holder.info.pop(_BEGUN, None)
            if since is not None and self.config.statements:
                for metrics in self.metrics.values():
                    metrics.observe_transaction(outcome, self._clock() - since)
        except (
            AttributeError,
            NotImplementedError,
        ):  # SQLAlchemy's own look at a new connection, which belongs to no pool yet
            return
        except Exception as error:  # noqa: BLE001  # as above
            note_survived("transactions", error)


def _handled_later(
    listeners: Iterable[Callable[..., bool | None]], ours: object, cursor: Any, statement: str, rest: tuple[Any, ...]
) -> bool:
    """Whether a listener that stands behind ours has executed the statement."""
    behind = False
    for listener in listeners:
        if behind and listener(cursor, statement, *rest):
            return True
        behind = behind or listener is ours
    return False
