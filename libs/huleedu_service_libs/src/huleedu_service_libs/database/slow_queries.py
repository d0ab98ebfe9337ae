"""Logs slow statements: their SQL without values, how long, how often, and on request their plan.

One line a shape and interval. A plan is asked for on a connection of its own, read-only, with a time limit, one at a
time; ``EXPLAIN`` without ``ANALYZE`` runs nothing.
"""

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from weakref import ref

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs._clock import Clock, Now, monotonic, utc_now
from huleedu_service_libs._tasks import begin
from huleedu_service_libs.database.probing import probe
from huleedu_service_libs.database.settings import DatabaseMonitoringConfig
from huleedu_service_libs.database.sql import Shape, explainable, is_single
from huleedu_service_libs.database.sql_values import fingerprint, normalise, plan_without_values
from huleedu_service_libs.database.survived import note_survived
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["SlowQuery", "SlowQueryLog", "recent_slow_queries"]

_KEPT = 50
_SHAPES = 500
_PLAN_LINES = 60

_logger = create_service_logger("huleedu_service_libs.database")


@dataclass(frozen=True, kw_only=True)
class SlowQuery:
    """One slow statement.

    Attributes:
        fingerprint: Names statements that differ in values alone.
        operation: Its verb.
        table: The first table that it names.
        query: The SQL without values.
        seconds: How long it took.
        at: When it ended.
        plan: Lines of its plan, values hidden; empty until there is one.
    """

    fingerprint: str
    operation: str
    table: str
    query: str
    seconds: float
    at: datetime
    plan: tuple[str, ...] = ()


_recent: "deque[SlowQuery]" = deque(maxlen=_KEPT)


def recent_slow_queries() -> list[SlowQuery]:
    """The latest slow statements of this process, newest last; at most fifty, one for each line of the log."""
    return list(_recent)


class SlowQueryLog:
    """The slow statements of one engine.

    Args:
        engine: Whose plans are asked for; held weakly.
        config: Intervals and limits.
    """

    def __init__(
        self, engine: Engine, config: DatabaseMonitoringConfig, clock: Clock = monotonic, now: Now = utc_now
    ) -> None:
        self._engine = ref(engine)
        self._config = config
        self._clock = clock
        self._now = now
        self._lines: OrderedDict[str, tuple[float, int]] = OrderedDict()  # last line, and what was left out since
        self._explained = float("-inf")
        self._explaining: asyncio.Task[None] | None = None

    def note(self, statement: str, shape: Shape, seconds: float, parameters: Any) -> None:
        """A statement took so long: log it, unless its shape had a line just now."""
        query = normalise(statement)
        name = fingerprint(query)
        left_out = self._due(name)
        if left_out is None:
            return
        slow = SlowQuery(
            fingerprint=name,
            operation=shape.operation,
            table=shape.table,
            query=query,
            seconds=round(seconds, 4),
            at=self._now(),
        )
        _recent.append(slow)
        _logger.warning(
            "slow_query",
            duration_seconds=slow.seconds,
            operation=slow.operation,
            table=slow.table,
            query=query,
            fingerprint=name,
            left_out=left_out,
        )
        if self._config.explain_slow_statements and parameters is not None and explainable(shape):
            self._explain_soon(slow, statement, parameters)

    def _due(self, name: str) -> int | None:
        """How many lines of this shape were left out, or None when this one is left out as well."""
        now = self._clock()
        last, left_out = self._lines.get(name, (float("-inf"), 0))
        due = now - last >= self._config.slow_log_interval_s
        self._lines[name] = (now, 0) if due else (last, left_out + 1)
        self._lines.move_to_end(name)
        if len(self._lines) > _SHAPES:
            self._lines.popitem(last=False)
        return left_out if due else None

    def _explain_soon(self, slow: SlowQuery, statement: str, parameters: Any) -> None:
        engine = self._engine()
        now = self._clock()
        busy = self._explaining is not None and not self._explaining.done()
        if engine is None or busy or now - self._explained < self._config.explain_interval_s:
            return
        if not engine.dialect.is_async or engine.dialect.name != "postgresql":
            return
        if not is_single(statement):  # EXPLAIN would plan the first and run the rest
            return
        self._explained = now
        self._explaining = begin(
            self._explain(AsyncEngine(engine), slow, statement, parameters), name="huleedu-explain"
        )

    async def _explain(self, engine: AsyncEngine, slow: SlowQuery, statement: str, parameters: Any) -> None:
        async def work(connection: AsyncConnection) -> list[str]:
            limit = int(self._config.explain_timeout_s * 1000)
            await connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
            result = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            return [str(line) for line in result.scalars()]

        try:
            lines = await probe(engine, work, self._config.explain_timeout_s)
        except Exception as error:  # noqa: BLE001  # whatever it is, the statement itself went well
            note_survived("explain", error)
            return
        plan = tuple(plan_without_values(lines)[:_PLAN_LINES])
        _keep_plan(slow, plan)
        _logger.warning(
            "slow_query_plan", fingerprint=slow.fingerprint, operation=slow.operation, table=slow.table, plan=list(plan)
        )


def _keep_plan(slow: SlowQuery, plan: tuple[str, ...]) -> None:
    for place, known in enumerate(_recent):
        if known is slow:
            _recent[place] = replace(slow, plan=plan)
