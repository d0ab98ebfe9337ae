"""Prometheus metrics of a service's database, and the one call that sets all of them up.

Named ``<service>_database_...``; characters that Prometheus would have quoted become underscores, which is
what its text format shows anyhow. Made once in a process for each service name.
"""

from collections import Counter as Counts
from collections.abc import Callable, MutableMapping
from threading import Lock
from typing import Any, TypeAlias

from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs._tallies import READS_ALONE
from huleedu_service_libs.database.collectors import BUCKETS, Named
from huleedu_service_libs.database.connection_monitoring import ConnectionPoolMonitor, setup_connection_monitoring
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.database.engines import pool_label
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
from huleedu_service_libs.database.settings import DatabaseMonitoringConfig
from huleedu_service_libs.database.statements import watch_statements
from huleedu_service_libs.database.survived import note_survived

__all__ = [
    "DatabaseMetrics",
    "DatabaseMetricsProtocol",
    "NoOpDatabaseMetrics",
    "PrometheusDatabaseMetrics",
    "setup_database_monitoring",
]

_MAX_SERIES = 1_000
_OTHER = "other"
_LAST_SET: dict[Gauge, dict[str, int]] = {}  # by the first gauge of the four, for collectors are shared
_SETTING = Lock()  # engines that are not asynchronous are used by many threads


class PrometheusDatabaseMetrics:
    """The metrics of one service's database.

    A second one for the same service shares the collectors. Label values are bounded: after a thousand
    combinations of one collector further ones count as ``other``.

    Args:
        service_name: Prefix of the metrics' names.
        metrics_dict: The service's own mapping; collectors are added under their logical names, what it
            holds already stays.
    """

    def __init__(self, service_name: str, metrics_dict: MutableMapping[str, Any] | None = None) -> None:
        self.service_name = service_name
        self.metrics: MutableMapping[str, Any] = {} if metrics_dict is None else metrics_dict
        named = Named(service_name)
        self._query = named.histogram(
            "database_query_duration_seconds", "Duration of queries", ("operation", "table", "result"), BUCKETS
        )
        self._active = named.gauge("database_connections_active", "Connections in use")
        self._idle = named.gauge("database_connections_idle", "Idle connections of the pool")
        self._total = named.gauge("database_connections_total", "Open connections of the pool")
        self._overflow = named.gauge("database_connections_overflow", "Open connections beyond the pool's size")
        self._acquired = named.counter("database_connections_acquired_total", "Connections taken out of the pool")
        self._released = named.counter("database_connections_released_total", "Connections given back to the pool")
        self._transactions = named.counter("database_transactions_total", "Transactions", ("operation", "result"))
        self._transaction = named.histogram(
            "database_transaction_duration_seconds", "Duration of transactions", ("operation", "result"), BUCKETS
        )
        self._errors = named.counter("database_errors_total", "Failed operations", ("error_type", "operation"))
        self._own = named.made
        self._last = _LAST_SET.setdefault(self._active, dict.fromkeys(("active", "idle", "total", "overflow"), 0))
        self._children: dict[tuple[object, ...], Any] = {}
        self._series: Counts[Counter | Histogram] = Counts()
        for name, collector in self._own.items():
            self.metrics.setdefault(name, collector)

    def record_query_duration(self, operation: str, table: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # the contract's signature
        """A query took ``duration`` seconds.

        Args:
            operation: What it did: ``select``, ``insert`` and so on. A label, as the table: few values, no ids.
            table: Where.
            duration: Seconds.
            success: Whether it came to its end without an error.
        """
        self._safely(lambda: self._child(self._query, operation, table, _result(success)).observe(duration))

    def record_connection_acquired(self, pool_size: int, overflow: int) -> None:  # noqa: ARG002  # the contract's signature
        """A connection was taken out of the pool."""
        self._acquired.inc()

    def record_connection_released(self, pool_size: int, overflow: int) -> None:  # noqa: ARG002  # as above
        """A connection was given back."""
        self._released.inc()

    def record_transaction_duration(self, operation: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # as above
        """A transaction took ``duration`` seconds.

        Args:
            operation: What it was for. A label: few values, no ids.
            duration: Seconds.
            success: Whether it came to its end without an error.
        """
        self._safely(lambda: self._child(self._transactions, operation, _result(success)).inc())
        self._safely(lambda: self._child(self._transaction, operation, _result(success)).observe(duration))

    def record_database_error(self, error_type: str, operation: str) -> None:
        """An operation failed with an error of that class.

        Args:
            error_type: The error's class by name.
            operation: As for `record_query_duration`.
        """
        self._safely(lambda: self._child(self._errors, error_type, operation).inc())

    def set_connection_pool_status(self, active: int, idle: int, total: int, overflow: int) -> None:
        """So many connections are in use, idle, open at all, and open beyond the pool's size."""
        try:
            last = self._last
            with _SETTING:  # most changes concern two of the four
                if last["active"] != active:
                    self._active.set(active)
                if last["idle"] != idle:
                    self._idle.set(idle)
                if last["total"] != total:
                    self._total.set(total)
                if last["overflow"] != overflow:
                    self._overflow.set(overflow)
                last["active"], last["idle"], last["total"], last["overflow"] = active, idle, total, overflow
        except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("metrics", error)

    def watch_with(self, monitor: ConnectionPoolMonitor, further: EngineMetrics, pool: str) -> None:
        """Have ``monitor`` note what happens at its pool, where it can be counted when somebody looks."""
        if READS_ALONE:
            gauges = (self._active, self._idle, self._total, self._overflow)
            monitor.observe_with(further.for_pool(pool, self._acquired, self._released), self.service_name, gauges)
        else:
            monitor.observe_with(further.for_pool(pool), self.service_name)

    def get_metrics(self) -> dict[str, Any]:
        """The collectors by logical name, and whatever else the service's mapping holds."""
        return {**self.metrics, **self._own}

    def _child(self, collector: Counter | Histogram, *values: str) -> Any:
        key = (collector, *values)
        child = self._children.get(key)
        if child is None:
            texts = tuple(str(value) for value in values)
            if self._series[collector] >= _MAX_SERIES:
                texts = (*(_OTHER for _ in texts[:-1]), texts[-1] if texts[-1] in _RESULTS else _OTHER)
                return collector.labels(*texts)
            self._series[collector] += 1
            child = self._children[key] = collector.labels(*texts)
        return child

    @staticmethod
    def _safely(record: Callable[[], object]) -> None:
        try:
            record()
        except Exception as error:  # noqa: BLE001  # a figure is not worth a failed query
            note_survived("metrics", error)


_RESULTS = ("success", "error")


def _result(success: object) -> str:
    return _RESULTS[0] if success else _RESULTS[1]


DatabaseMetrics: TypeAlias = PrometheusDatabaseMetrics


class NoOpDatabaseMetrics:
    """Takes figures and forgets them.

    Args:
        service_name: For whom.
    """

    def __init__(self, service_name: str = "unknown") -> None:
        self.service_name = service_name

    def record_query_duration(self, operation: str, table: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # the contract's signature
        """Do nothing."""

    def record_connection_acquired(self, pool_size: int, overflow: int) -> None:
        """Do nothing."""

    def record_connection_released(self, pool_size: int, overflow: int) -> None:
        """Do nothing."""

    def record_transaction_duration(self, operation: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # as above
        """Do nothing."""

    def record_database_error(self, error_type: str, operation: str) -> None:
        """Do nothing."""

    def set_connection_pool_status(self, active: int, idle: int, total: int, overflow: int) -> None:
        """Do nothing."""

    def get_metrics(self) -> dict[str, Any]:
        """An empty mapping."""
        return {}


def setup_database_monitoring(
    engine: AsyncEngine | Engine,
    service_name: str,
    metrics_dict: MutableMapping[str, Any] | None = None,
    *,
    config: DatabaseMonitoringConfig | None = None,
) -> PrometheusDatabaseMetrics:
    """Watch an engine: its pool, every statement and every transaction. Never raises for what it watches.

    May be called again, for one engine, one service, or both; nothing is counted twice, and ``engine.dispose()``
    ends nothing. Two service names on one engine both get the figures; the figures of two engines of one
    service add up, and collectors with the label ``pool`` tell them apart.

    Args:
        engine: What the service's sessions use.
        service_name: Prefix of the metrics' names.
        metrics_dict: The service's own mapping, to which collectors are added.
        config: How closely to watch; of repeated calls for one engine the last that gives one counts.
    """
    metrics = PrometheusDatabaseMetrics(service_name, metrics_dict)
    further = EngineMetrics(service_name)
    monitor = setup_connection_monitoring(engine, metrics)
    try:
        metrics.watch_with(monitor, further, pool_label(engine))
        watch_statements(engine, further, config)
    except Exception as error:  # noqa: BLE001  # a test's double of an engine, perhaps: the service runs unwatched
        note_survived("setup", error)
    return metrics
