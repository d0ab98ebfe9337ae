"""What PostgreSQL's catalogue tells of a database's sessions: who runs long, who waits for whom. Values are hidden."""

from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from huleedu_service_libs.database.sql_values import normalise

__all__ = ["LONG_S", "read_activity"]

LONG_S = 300
"""A query that runs longer is told; the contract's five minutes."""

_SHOWN = 10

_COUNTS = text(
    "SELECT count(*) FILTER (WHERE state = 'active') AS active,"
    " count(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction,"
    " count(*) AS sessions,"
    " (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS of_server,"
    " current_setting('max_connections')::int AS allowed,"
    " (SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()) AS deadlocks"
    " FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
)
_SIZE = text("SELECT pg_size_pretty(pg_database_size(current_database()))")
# An idle session holds its last statement as ``query`` but runs nothing; one idle in a transaction holds locks and
# keeps vacuum from its work, so its transaction counts.
_LONG = text(
    "SELECT pid, application_name, state, wait_event_type, wait_event, query,"
    " extract(epoch FROM clock_timestamp() - CASE WHEN state = 'active' THEN query_start ELSE xact_start END) AS age"
    " FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    " AND (state = 'active' AND query_start < clock_timestamp() - make_interval(secs => :limit)"
    " OR state LIKE 'idle in transaction%' AND xact_start < clock_timestamp() - make_interval(secs => :limit))"
    " ORDER BY age DESC"
)
_WAITS = text(
    "SELECT pid, application_name, query, pg_blocking_pids(pid) AS blocked_by,"
    " extract(epoch FROM clock_timestamp() - state_change) AS age"
    " FROM pg_stat_activity"
    " WHERE datname = current_database() AND wait_event_type = 'Lock' AND state = 'active'"
    " ORDER BY age DESC"
)


async def read_activity(connection: AsyncConnection, long_seconds: float) -> dict[str, Any]:
    """Counts, the size, and the sessions to look at, as plain JSON."""
    counts = (await connection.execute(_COUNTS)).mappings().one()
    long = (await connection.execute(_LONG, {"limit": long_seconds})).mappings().all()
    waits = (await connection.execute(_WAITS)).mappings().all()
    return {
        "active_connections": counts["active"],
        "idle_in_transaction": counts["idle_in_transaction"],
        "open_connections": counts["sessions"],
        "server_connections": counts["of_server"],
        "max_connections": counts["allowed"],
        "deadlocks_total": counts["deadlocks"] or 0,
        "long_running_queries": len(long),
        "long_running": [_session(row, row["state"]) for row in long[:_SHOWN]],
        "waiting_for_locks": len(waits),
        "lock_waits": [{**_session(row, "waiting"), "blocked_by": list(row["blocked_by"])} for row in waits[:_SHOWN]],
        "database_size": await _size(connection),
    }


async def _size(connection: AsyncConnection) -> str:
    try:
        async with connection.begin_nested():
            return str((await connection.execute(_SIZE)).scalar_one())
    except Exception:  # noqa: BLE001  # needs the right to connect; shown in the figure itself
        return "unavailable"


def _session(row: Any, state: str) -> dict[str, Any]:
    return {
        "pid": row["pid"],
        "application": row["application_name"],
        "state": state,
        "age_seconds": round(float(row["age"]), 1),
        "query": normalise(row["query"]),
    }
