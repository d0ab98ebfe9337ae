"""Looks at the outbox: at the relay of this process, and at the table, where events wait whoever runs."""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.database.probing import own_engine
from huleedu_service_libs.health.findings import ComponentDownError, Finding, Impact, Level, Probe
from huleedu_service_libs.outbox.settings import MAX_RETRIES
from huleedu_service_libs.outbox.status import StatusLimits, measure_status, read_status

__all__ = ["Runs", "outbox_probe", "relay_probe"]

_TIMEOUT_S = 4.0


class Runs(Protocol):
    """A part with a background loop, such as `EventRelayWorker`."""

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive."""
        ...


def relay_probe(relay: Runs, *, name: str = "relay", impact: Impact = Impact.RESTART, interval_s: float = 5.0) -> Probe:
    """The relay's loop in this process. One that has ended comes back with a new process only.

    Args:
        relay: Or anything else with ``is_running``.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks.
    """

    async def look() -> Finding:
        if relay.is_running:
            return Finding()
        return Finding(level=Level.FAIL, cause="its loop has ended: see the log for why, and restart the process")

    return Probe(name=name, look=look, impact=impact, interval_s=interval_s)


def outbox_probe(
    engine: AsyncEngine,
    service_name: str,
    *,
    max_retries: int = MAX_RETRIES,
    limits: StatusLimits | None = None,
    name: str = "outbox",
    impact: Impact = Impact.DEGRADES,
    interval_s: float = 15.0,
) -> Probe:
    """The table: what waits, for how long, what is parked. Any problem is ``WARN``; waiting events without a relay fail.

    Args:
        engine: Where the table is.
        service_name: Whose outbox it is.
        max_retries: As in the relay's settings; it says what is parked.
        limits: From when on something is worth telling.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks. Fewer than elsewhere, since each counts rows.
    """

    async def look() -> Finding:
        try:
            async with own_engine(engine) as own:
                status = await read_status(
                    own, service_name=service_name, max_retries=max_retries, limits=limits, timeout_s=_TIMEOUT_S
                )
        except Exception as error:
            raise ComponentDownError(f"the outbox cannot be read: {error_text(error)}") from error
        measure_status(status)  # the gauges are set by a running relay else, and would stand still without one
        level = {"healthy": Level.PASS, "warning": Level.WARN, "unhealthy": Level.FAIL}[status.status]
        details = {
            "waiting": status.waiting,
            "parked": status.parked,
            "oldest_age_seconds": round(status.oldest_age_s, 3),
            "relays": status.relays,
            "lanes_owned": status.lanes_owned,
        }
        return Finding(level=level, cause="; ".join(status.problems) or None, details=details)

    return Probe(name=name, look=look, impact=impact, interval_s=interval_s, timeout_s=_TIMEOUT_S)
