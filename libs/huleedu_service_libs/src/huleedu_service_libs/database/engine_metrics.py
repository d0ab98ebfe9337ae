"""Collectors of what SQLAlchemy's events and the pool tell of an engine, beyond what services record themselves.

The contract's collectors count what a service calls a query or a transaction; these count statements and transactions
as the driver sees them, under names of their own: a service that records its queries counts nothing twice.
"""

from dataclasses import dataclass
from typing import Any

from prometheus_client import Counter, Gauge

from huleedu_service_libs._tallies import Tally, tally
from huleedu_service_libs.database.collectors import Named
from huleedu_service_libs.database.sql import Shape

__all__ = ["EngineMetrics", "PoolMetrics"]


@dataclass(frozen=True, kw_only=True)
class PoolMetrics:
    """The collectors of one pool, its label set already. The fields' units are seconds or counts.

    Attributes:
        wait: From asking for a connection to having it, opening one included; counts the connections taken, too.
        use: From having it to giving it back; counts them, too.
        create: Opening a connection to the server.
        pending: Callers that wait for a connection.
        timeouts: Callers that gave up.
        invalidations: Connections thrown away as broken.
        limit: The most connections that the pool opens; 0 without a limit.
    """

    wait: Tally
    use: Tally
    create: Tally
    pending: Gauge
    timeouts: Any
    invalidations: Any
    limit: Gauge


class EngineMetrics:
    """The collectors of one service.

    Args:
        service_name: Prefix of their names.
    """

    def __init__(self, service_name: str) -> None:
        self.service_name = service_name
        named = Named(service_name)
        pool = ("pool",)
        self._wait = named.histogram("database_connection_wait_seconds", "Wait for a connection", pool)
        self._use = named.histogram("database_connection_use_seconds", "Connections held by their users", pool)
        self._create = named.histogram("database_connection_create_seconds", "Opening a connection", pool)
        self._pending = named.gauge("database_connection_pending", "Callers that wait for a connection", pool)
        self._timeouts = named.counter("database_connection_timeouts_total", "Callers that got no connection", pool)
        self._invalid = named.counter("database_connection_invalidations_total", "Connections found broken", pool)
        self._limit = named.gauge("database_connection_limit", "Most connections of the pool, 0 for no limit", pool)
        self._statement = named.histogram(
            "database_statement_duration_seconds", "Duration of statements", ("operation", "table", "result")
        )
        self._errors = named.counter(
            "database_statement_errors_total", "Failed statements by condition", ("operation", "condition")
        )
        self._slow = named.counter("database_slow_statements_total", "Slow statements", ("operation", "table"))
        self._open = named.histogram(
            "database_transaction_open_seconds", "How long transactions were open", ("outcome",)
        )
        self._statements: dict[tuple[str, str, str], Tally] = {}
        self._outcomes = {outcome: tally(self._open, outcome) for outcome in ("commit", "rollback")}

    def for_pool(self, pool: str, acquired: Counter | None = None, released: Counter | None = None) -> PoolMetrics:
        """The collectors of the pool with this label.

        Args:
            pool: The label.
            acquired: Counts the connections taken, of all pools, unless somebody else does.
            released: Counts those given back; as above.
        """
        return PoolMetrics(
            wait=tally(self._wait, pool, counted=acquired),
            use=tally(self._use, pool, counted=released),
            create=tally(self._create, pool),
            pending=self._pending.labels(pool),
            timeouts=self._timeouts.labels(pool),
            invalidations=self._invalid.labels(pool),
            limit=self._limit.labels(pool),
        )

    def observe_statement(self, shape: Shape, seconds: float, result: str) -> None:
        """A statement of that shape took so long. Shapes are bounded by who makes them."""
        key = (shape.operation, shape.table, result)
        series = self._statements.get(key)
        if series is None:
            series = self._statements[key] = tally(self._statement, *key)
        series.note(seconds)

    def count_error(self, operation: str, condition: str) -> None:
        """A statement failed."""
        self._errors.labels(operation, condition).inc()

    def count_slow(self, shape: Shape) -> None:
        """A statement was slow."""
        self._slow.labels(shape.operation, shape.table).inc()

    def observe_transaction(self, outcome: str, seconds: float) -> None:
        """A transaction was open so long; outcome ``commit`` or ``rollback``."""
        self._outcomes[outcome].note(seconds)
