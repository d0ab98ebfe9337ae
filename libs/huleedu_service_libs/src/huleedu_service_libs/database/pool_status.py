"""A pool's figures, whatever kind of pool or double it is."""

from typing import Any, TypedDict

__all__ = ["PoolStatus", "capacity_of", "get_pool_status_safe"]


class PoolStatus(TypedDict):
    """Figures of a pool, in connections; 0 where the pool does not tell."""

    pool_size: int
    active_connections: int
    idle_connections: int
    overflow_connections: int


def get_pool_status_safe(pool: Any) -> PoolStatus:
    """The figures; never raises."""
    return PoolStatus(
        pool_size=_figure(pool, "size"),
        active_connections=_figure(pool, "checkedout"),
        idle_connections=_figure(pool, "checkedin"),
        # Negative until the pool is full: so many more may come before there is any overflow.
        overflow_connections=_figure(pool, "overflow"),
    )


def capacity_of(pool: Any) -> int:
    """The most connections that the pool opens: size and allowed overflow; 0 when it has no limit or tells none."""
    status = get_pool_status_safe(pool)
    size, allowed = status["pool_size"], getattr(pool, "_max_overflow", None)  # has no public name
    if type(allowed) is int:
        return size + allowed if allowed >= 0 and size else 0
    return size + status["overflow_connections"]


def _figure(pool: Any, name: str) -> int:
    try:
        value = getattr(pool, name)()
    except Exception:  # noqa: BLE001  # NullPool has no such method, a double may have anything
        return 0
    return max(0, value) if type(value) is int else 0
