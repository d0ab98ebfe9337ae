"""Adds the figures of a service's pools up for its gauges: those of all its engines together.

`pool_watch` asks it; it knows pools by their figures only.
"""

from typing import Any, Protocol
from weakref import WeakSet

from huleedu_service_libs.database.pool_status import get_pool_status_safe
from huleedu_service_libs.database.ports import DatabaseMetricsProtocol

__all__ = ["HasFigures", "figures_of", "key_of", "sharing_of", "tell_sum"]


class HasFigures(Protocol):
    """Knows one pool."""

    def figures(self) -> tuple[int, int, int]:
        """Connections in use, idle, and the pool's size."""
        ...


_sharing: "dict[object, WeakSet[HasFigures]]" = {}


def key_of(metrics: DatabaseMetricsProtocol) -> object:
    """Equal for metrics of one kind and service, whose gauges are the same."""
    name = getattr(metrics, "service_name", None)
    return (type(metrics), name) if isinstance(name, str) else id(metrics)


def sharing_of(key: object) -> "WeakSet[HasFigures]":
    """Whose figures are added up for the metrics with this key."""
    return _sharing.setdefault(key, WeakSet())


def figures_of(pool: Any) -> tuple[int, int, int]:
    """Connections in use, idle, and the size of any pool; zeros where it does not tell."""
    try:
        return pool.checkedout(), pool.checkedin(), pool.size()
    except Exception:  # noqa: BLE001  # NullPool has none of them
        status = get_pool_status_safe(pool)
        return status["active_connections"], status["idle_connections"], status["pool_size"]


def tell_sum(
    key: object, metrics: DatabaseMetricsProtocol, mine: tuple[int, int, int] = (0, 0, 0), without: object = None
) -> None:
    """Set the gauges of a service: the sum of its engines' pools, with other figures for one of them."""
    active, idle, overflow = mine
    for watch in sharing_of(key):
        if watch is not without:
            out, waiting, size = watch.figures()
            active, idle, overflow = active + out, idle + waiting, overflow + _beyond(out, waiting, size)
    metrics.set_connection_pool_status(active, idle, active + idle, overflow)


def _beyond(active: int, idle: int, size: int) -> int:
    return max(0, active + idle - size) if size else 0
