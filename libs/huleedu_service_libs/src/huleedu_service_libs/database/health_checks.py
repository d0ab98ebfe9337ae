"""Answers the question whether a service's database is well. Every check fails soft and has a time limit.

Health endpoints use it. Questions to the server go over a connection of their own, so that a busy pool is told as a
busy pool and not as a dead database; the pool is judged by its own figures.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.database.activity import LONG_S, read_activity
from huleedu_service_libs.database.connection_monitoring import invalid_connections, pending_callers
from huleedu_service_libs.database.pool_status import PoolStatus, capacity_of, get_pool_status_safe
from huleedu_service_libs.database.probing import probe
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["DatabaseHealthChecker", "PoolStatus", "get_pool_status_safe"]

_logger = create_service_logger("huleedu_service_libs.database")

_SIMPLE = text("SELECT 1")
# Costs the server some work of its own on any database, and no table of the service.
_COMPLEX = text(
    "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1000)"
    " SELECT count(*), sum(n) FROM numbers"
)
_SIMPLE_LIMIT = 1.0
_COMPLEX_LIMIT = 5.0
_SUMMARY_LIMIT = 2.0
_RESOURCES_LIMIT = 10.0
_BUSY_PERCENT = 80.0
_FULL_PERCENT = 95.0
_SEVERITY = ("healthy", "warning", "error", "unhealthy")


class DatabaseHealthChecker:
    """Checks one engine's database; keeps nothing between checks, so one a request is as good as one an application.

    Args:
        engine: Of the service.
        service_name: For the reports.
        long_query_seconds: From this age on a running query, or an idle transaction, is a warning.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        service_name: str,
        *,
        long_query_seconds: float = LONG_S,
        clock: Clock = monotonic,
    ) -> None:
        self.engine = engine
        self.service_name = service_name
        self._long_query_seconds = long_query_seconds
        self._clock = clock

    async def check_basic_connectivity(self, timeout: float = 5.0) -> dict[str, Any]:  # noqa: ASYNC109  # the contract's argument
        """Whether the database answers one query within ``timeout`` seconds, connecting included."""
        since = self._clock()
        try:
            await probe(self.engine, _ask_one, timeout)
        except TimeoutError as error:
            # A lost connection may end in a time-out of the system's own, with a text of its own.
            return self._connectivity(since, error="Connection timeout", detail=str(error))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the answer
            return self._connectivity(since, error=_told(error))
        return self._connectivity(since)

    async def check_connection_pool_health(self) -> dict[str, Any]:
        """How full the pool is; every connection in use, or callers waiting, is a warning."""
        try:
            return self._pool_report()
        except Exception as error:  # noqa: BLE001  # as above
            return _failed(error)

    async def check_query_performance(self, timeout: float = 10.0) -> dict[str, Any]:  # noqa: ASYNC109  # the contract's argument
        """How long a trivial query and one with some work in it take, in seconds."""
        report: dict[str, Any] = {
            "status": "healthy",
            "simple_query_time_seconds": None,
            "complex_query_time_seconds": None,
            "warnings": [],
        }

        async def work(connection: AsyncConnection) -> None:
            report["simple_query_time_seconds"] = await self._time(connection, _SIMPLE)
            report["complex_query_time_seconds"] = await self._time(connection, _COMPLEX)

        try:
            await probe(self.engine, work, timeout)
        except TimeoutError:
            report |= {"status": "unhealthy", "error": "Query timeout"}
        except Exception as error:  # noqa: BLE001  # as above
            report |= {"status": "error", "error": _told(error)}
        else:
            self._judge_times(report)
        return {**report, "timestamp": time.time()}

    async def check_database_resources(self) -> dict[str, Any]:
        """Sessions, size, queries that run long and who waits for whose locks. PostgreSQL only."""
        report: dict[str, Any] = {
            "status": "healthy",
            "active_connections": 0,
            "database_size": "unavailable",
            "long_running_queries": 0,
            "warnings": [],
        }
        dialect = getattr(getattr(self.engine, "dialect", None), "name", None)
        if isinstance(dialect, str) and dialect != "postgresql":
            report["warnings"].append(f"sessions and size are known for PostgreSQL only, this is {dialect}")
            return {**report, "timestamp": time.time()}
        try:
            report |= await probe(
                self.engine, lambda connection: read_activity(connection, self._long_query_seconds), _RESOURCES_LIMIT
            )
            self._judge_activity(report)
        except TimeoutError as error:
            report |= {"status": "unhealthy", "error": str(error) or "Query timeout"}
        except Exception as error:  # noqa: BLE001  # as above
            report |= {"status": "error", "error": _told(error)}
        return {**report, "timestamp": time.time()}

    async def comprehensive_health_check(self) -> dict[str, Any]:
        """All checks, at the same time; ``overall_status`` is the worst of theirs."""
        checks: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
            "connectivity": self.check_basic_connectivity,
            "connection_pool": self.check_connection_pool_health,
            "query_performance": self.check_query_performance,
            "database_resources": self.check_database_resources,
        }
        outcomes = await asyncio.gather(*(check() for check in checks.values()), return_exceptions=True)
        results = {
            name: outcome if isinstance(outcome, dict) else _failed(outcome)
            for name, outcome in zip(checks, outcomes, strict=True)
        }
        return {
            "service": self.service_name,
            "overall_status": max((result["status"] for result in results.values()), key=_SEVERITY.index),
            "checks": results,
            "warnings": [warning for result in results.values() for warning in result.get("warnings", ())],
            "timestamp": time.time(),
        }

    async def get_health_summary(self) -> dict[str, Any]:
        """Connectivity and the pool's utilisation, in at most two seconds."""
        try:
            connectivity = await self.check_basic_connectivity(timeout=_SUMMARY_LIMIT)
            pool = await self.check_connection_pool_health()
            utilisation = pool.get("utilization_percent", 0.0)
            status = "warning" if utilisation > _FULL_PERCENT else "healthy"
            reason = {} if connectivity["connectivity"] else {"error": connectivity["error"]}
            return {
                "service": self.service_name,
                "status": status if connectivity["connectivity"] else "unhealthy",
                "connectivity": connectivity["connectivity"],
                "response_time_seconds": connectivity["response_time_seconds"],
                "pool_utilization_percent": utilisation,
                "active_connections": pool.get("active_connections", 0),
                **reason,
                "timestamp": time.time(),
            }
        except Exception as error:  # noqa: BLE001  # as above
            return {"service": self.service_name, **_failed(error)}

    def _connectivity(self, since: float, error: str | None = None, detail: str | None = None) -> dict[str, Any]:
        report: dict[str, Any] = {
            "status": "healthy" if error is None else "unhealthy",
            "connectivity": error is None,
            "response_time_seconds": round(self._clock() - since, 6),
            "error": error,
            "timestamp": time.time(),
        }
        return {**report, "detail": detail} if detail else report

    def _pool_report(self) -> dict[str, Any]:
        pool = self.engine.pool
        status = get_pool_status_safe(pool)
        capacity, active = capacity_of(pool), status["active_connections"]
        utilisation = round(100 * active / capacity, 1) if capacity else 0.0
        waiting = pending_callers(self.engine)
        warnings = _pool_warnings(active, capacity, utilisation, waiting)
        return {
            "status": "warning" if warnings else "healthy",
            **status,
            "invalid_connections": invalid_connections(self.engine),
            "waiting_callers": waiting,
            "total_capacity": capacity,
            "utilization_percent": utilisation,
            "pool_type": type(pool).__name__,
            "warnings": warnings,
            "timestamp": time.time(),
        }

    async def _time(self, connection: AsyncConnection, query: Any) -> float:
        since = self._clock()
        await connection.execute(query)
        return round(self._clock() - since, 6)

    def _judge_times(self, report: dict[str, Any]) -> None:
        for name, limit in (("simple", _SIMPLE_LIMIT), ("complex", _COMPLEX_LIMIT)):
            took = report[f"{name}_query_time_seconds"]
            if took > limit:
                report["status"] = "warning"
                report["warnings"].append(f"the {name} query took {took:.2f} s, more than {limit:g} s")

    def _judge_activity(self, report: dict[str, Any]) -> None:
        for session in report["long_running"]:
            report["warnings"].append(
                f"pid {session['pid']} ({session['application'] or 'no application name'}) is {session['state']} for "
                f"{session['age_seconds']:.0f} s: {session['query'][:200]}"
            )
        if report["long_running_queries"]:
            report["status"] = "warning"


async def _ask_one(connection: AsyncConnection) -> None:
    await connection.execute(_SIMPLE)


def _pool_warnings(active: int, capacity: int, utilisation: float, waiting: int) -> list[str]:
    warnings = []
    if capacity and active >= capacity:
        warnings.append(
            f"the pool is exhausted: {active} of {capacity} connections are in use, {waiting} callers wait; look for "
            "long transactions, or raise pool_size and max_overflow"
        )
    elif utilisation > _BUSY_PERCENT:
        warnings.append(f"the pool is busy: {active} of {capacity} connections are in use")
    elif waiting:
        warnings.append(f"{waiting} callers wait for a connection")
    return warnings


def _told(error: BaseException) -> str:
    # The text of a driver's error may hold the address with its password.
    return error_text(error)


def _failed(error: BaseException) -> dict[str, Any]:
    _logger.warning("database_health_check_failed", error=_told(error))
    return {"status": "error", "error": _told(error), "timestamp": time.time()}
