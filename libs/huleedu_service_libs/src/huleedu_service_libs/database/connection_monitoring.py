"""Tells a pool's figures to metrics, and to whoever asks.

Set up by `setup_database_monitoring`; health checks ask it. How the pool is listened to, `pool_watch` knows.
"""

from collections.abc import Sequence
from typing import Any

from prometheus_client import Gauge
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.database.engine_metrics import PoolMetrics
from huleedu_service_libs.database.engines import root_engine
from huleedu_service_libs.database.pool_status import capacity_of, get_pool_status_safe
from huleedu_service_libs.database.pool_watch import PoolWatch, known_watch, watch_of
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
from huleedu_service_libs.database.survived import note_survived

__all__ = ["ConnectionPoolMonitor", "invalid_connections", "pending_callers", "setup_connection_monitoring"]


class ConnectionPoolMonitor:
    """Tells the figures of an engine's pool to ``metrics``, from now on.

    Args:
        engine: Asynchronous or not; anything else is survived, and nothing is watched.
        metrics: Where to. A second one of the same kind and service takes the place of the first.
    """

    def __init__(self, engine: AsyncEngine | Engine, metrics: DatabaseMetricsProtocol) -> None:
        self.engine = engine
        self.metrics = metrics
        self._watch: PoolWatch | None = None
        try:
            self._watch = watch_of(root_engine(engine))
            self._watch.join(metrics)
        except Exception as error:  # noqa: BLE001  # a test's double: the service runs unwatched
            note_survived("pool", error)

    def observe_with(self, metrics: PoolMetrics, service_name: str, gauges: Sequence[Gauge] = ()) -> None:
        """Also observe waits, uses, creations, timeouts and invalidations.

        Args:
            metrics: Where to.
            service_name: Whose; a later one takes the place of the first.
            gauges: What the monitor's own metrics set, if those need not be told of each connection: ``metrics``
                counts them, and the gauges are set when one of them is read.
        """
        if self._watch is not None:
            self._watch.further[service_name] = metrics
            if gauges:
                self._watch.tell_when_read(self.metrics, gauges)
            metrics.limit.set(capacity_of(self.engine.pool))

    def get_current_status(self) -> dict[str, Any]:
        """The pool's figures now; ``pool_usage_percent`` is of all connections that it may open."""
        pool = getattr(self.engine, "pool", None)
        status = get_pool_status_safe(pool)
        capacity = capacity_of(pool)
        usage = round(100 * status["active_connections"] / capacity, 1) if capacity else 0.0
        return {**status, "pool_usage_percent": usage}


def setup_connection_monitoring(
    engine: AsyncEngine | Engine, metrics: DatabaseMetricsProtocol
) -> ConnectionPoolMonitor:
    """Watch the engine's pool. May be called repeatedly."""
    return ConnectionPoolMonitor(engine, metrics)


def invalid_connections(engine: Any) -> int:
    """Connections of the pool that were found broken and are not yet replaced; 0 when nobody watches the engine."""
    watch = known_watch(engine)
    return len(watch.invalid) if watch else 0


def pending_callers(engine: Any) -> int:
    """Callers that wait for a connection now; 0 when nobody watches the engine."""
    watch = known_watch(engine)
    return watch.pending if watch else 0
