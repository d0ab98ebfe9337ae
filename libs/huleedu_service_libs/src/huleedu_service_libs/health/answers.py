"""What the endpoints answer: status, body, content type. Knows no framework.

::

    /live      200 while a restart would not help, else 503
    /startup   503 until the start is over
    /ready     503 while this replica should get no traffic; 200 "warn" while it is degraded
    /details   everything that is known, by component
    (none)     the same in short, in the services' own form: service, status, checks
    /database, /database/summary   the database checker's reports

All but the last three are ``application/health+json`` (draft-inadarei-api-health-check-06).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._json import dumps
from huleedu_service_libs.health.findings import ComponentState, Level
from huleedu_service_libs.health.service import ServiceHealth
from huleedu_service_libs.health.verdicts import Verdict

__all__ = ["ENDPOINTS", "HEALTH_JSON", "HealthAnswer", "answer"]

HEALTH_JSON = "application/health+json"

_WORDS = {Level.PASS: "healthy", Level.WARN: "degraded", Level.FAIL: "unhealthy"}
_OK, _NOT_FOUND, _UNAVAILABLE = 200, 404, 503


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthAnswer:
    """An answer, ready to send.

    Attributes:
        status: 200 or 503.
        body: JSON.
        content_type: Of the body.
    """

    status: int
    body: bytes
    content_type: str = HEALTH_JSON

    @property
    def headers(self) -> dict[str, str]:
        """Content type, and that nobody should keep it."""
        return {"Content-Type": self.content_type, "Cache-Control": "no-store"}


async def answer(health: ServiceHealth, endpoint: str) -> HealthAnswer:
    """The answer of one of `ENDPOINTS`. Never raises for what is the matter with the service."""
    return await ENDPOINTS[endpoint](health)


async def _live(health: ServiceHealth) -> HealthAnswer:
    return _verdict(health, health.live())


async def _startup(health: ServiceHealth) -> HealthAnswer:
    return _verdict(health, health.started())


async def _ready(health: ServiceHealth) -> HealthAnswer:
    return _verdict(health, health.ready())


async def _details(health: ServiceHealth) -> HealthAnswer:
    shows = health.config.show_causes
    checks = {each.name: [_check(each, shows=shows)] for each in health.states()}
    return _verdict(health, health.overall(), life=health.life.value, checks=checks)


async def _short(health: ServiceHealth) -> HealthAnswer:
    verdict, shows = health.overall(), health.config.show_causes
    body = {
        "service": health.service_name,
        "status": _WORDS[verdict.level],
        "checks": {each.name: _in_short(each, shows=shows) for each in health.states()},
        **({"version": health.config.version} if health.config.version else {}),
    }
    return HealthAnswer(status=_code(verdict.level), body=dumps(body), content_type="application/json")


async def _database(health: ServiceHealth) -> HealthAnswer:
    if health.database is None:
        return _no_database(health)
    report = await health.once("comprehensive", health.database.comprehensive_health_check)
    status = report["overall_status"]
    return _report(health, report, status=status, bad=status in {"unhealthy", "error"})


async def _database_summary(health: ServiceHealth) -> HealthAnswer:
    if health.database is None:
        return _no_database(health)
    report = await health.once("summary", health.database.get_health_summary)
    status = report["status"]
    return _report(health, report, status=status, bad=status not in {"healthy", "warning"})


ENDPOINTS: Mapping[str, Callable[[ServiceHealth], Awaitable[HealthAnswer]]] = {
    "": _short,
    "/live": _live,
    "/ready": _ready,
    "/startup": _startup,
    "/details": _details,
    "/database": _database,
    "/database/summary": _database_summary,
}
"""By what follows the prefix in the path."""


def _verdict(health: ServiceHealth, verdict: Verdict, **more: Any) -> HealthAnswer:
    body: dict[str, Any] = {"status": verdict.level.word, "serviceId": health.service_name}
    if health.config.version:
        body["releaseId"] = health.config.version
    if verdict.causes and health.config.show_causes:
        body["output"] = "; ".join(verdict.causes)
    return HealthAnswer(status=_code(verdict.level), body=dumps({**body, **more}))


def _check(state: ComponentState, *, shows: bool) -> dict[str, Any]:
    check: dict[str, Any] = {"componentType": state.kind, "impact": state.impact.value}
    if state.level is not None:  # the draft has no word for "nobody has looked", and no need of a status
        check["status"] = state.level.word
    if state.since is not None:
        check["since"] = state.since.isoformat()
    if state.looked_at is not None:
        check |= {"time": state.looked_at.isoformat(), "observedValue": state.took_s, "observedUnit": "s"}
    if state.pending is not None:
        check["lastLook"] = state.pending.word
    if shows:
        check |= {"output": state.cause} if state.cause else {}
        check |= {"details": dict(state.details)} if state.details else {}
    return check


def _in_short(state: ComponentState, *, shows: bool) -> str:
    if state.level is None:
        return "not looked at yet"
    if state.level is Level.PASS:
        return "ok"
    since = f" (since {state.since.isoformat(timespec='seconds')})" if state.since else ""
    return f"{state.cause or state.level.word}{since}" if shows else state.level.word


def _report(health: ServiceHealth, report: dict[str, Any], *, status: str, bad: bool) -> HealthAnswer:
    if not health.config.show_causes:
        report = {"service": health.service_name, "status": status}
    return HealthAnswer(status=_UNAVAILABLE if bad else _OK, body=dumps(report), content_type="application/json")


def _no_database(health: ServiceHealth) -> HealthAnswer:
    text = f"{health.service_name} has no database, or has not set ServiceHealth.database"
    return HealthAnswer(status=_NOT_FOUND, body=dumps({"error": text}), content_type="application/json")


def _code(level: Level) -> int:
    return _UNAVAILABLE if level is Level.FAIL else _OK
