"""Looks at the database through the service's `DatabaseHealthChecker`, which uses a connection of its own."""

from typing import Any, Protocol

from huleedu_service_libs.health.findings import Finding, Impact, Level, Probe

__all__ = ["HealthSummary", "database_probe"]

_TIMEOUT_S = 4.0  # the checker's own limit is two seconds, and its sentence the better one

_SHOWN = {"response_time_seconds", "pool_utilization_percent", "active_connections"}


class HealthSummary(Protocol):
    """The part of `DatabaseHealthChecker` that is needed."""

    async def get_health_summary(self) -> dict[str, Any]:
        """Status ``healthy``, ``warning``, ``unhealthy`` or ``error``; connectivity and the pool's figures."""
        ...

    async def check_connection_pool_health(self) -> dict[str, Any]:
        """Status and warnings of the pool."""
        ...


def database_probe(
    checker: HealthSummary, *, name: str = "database", impact: Impact = Impact.DEGRADES, interval_s: float = 5.0
) -> Probe:
    """The database that ``checker`` checks. A busy pool is ``WARN``, a database that does not answer ``FAIL``.

    Args:
        checker: A `DatabaseHealthChecker`.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks.
    """

    async def look() -> Finding:
        summary = await checker.get_health_summary()
        details = {key: value for key, value in summary.items() if key in _SHOWN}
        if summary["status"] in {"healthy", "warning"}:
            warnings = (await checker.check_connection_pool_health()).get("warnings", [])
            level = Level.WARN if summary["status"] == "warning" else Level.PASS
            return Finding(level=level, cause="; ".join(warnings) or None, details=details)
        return Finding(level=Level.FAIL, cause=f"the database does not answer: {summary.get('error')}", details=details)

    return Probe(name=name, look=look, impact=impact, kind="datastore", interval_s=interval_s, timeout_s=_TIMEOUT_S)
