"""Looks at what remembers processed events, by the eyes of its `StoreWatch`, which looks at intervals of its own."""

from typing import Protocol

from huleedu_service_libs.health.damping import Damping
from huleedu_service_libs.health.findings import Finding, Impact, Level, Probe
from huleedu_service_libs.idempotency_v2.store_facts import CONDITIONS, INCIDENTS, StoreStatus

__all__ = ["Watches", "dedupe_store_probe"]

_AT_ONCE = Damping(falls_after=1, rises_after=1)


class Watches(Protocol):
    """The part of `StoreWatch` that is needed."""

    @property
    def status(self) -> StoreStatus:
        """What was found at the last look."""
        ...


def dedupe_store_probe(watch: Watches, *, name: str = "dedupe_store", interval_s: float = 5.0) -> Probe:
    """The store: what is the matter with it is ``WARN``; what has happened to it since the start stands in the details.

    Args:
        watch: Started by the service.
        name: Of the component.
        interval_s: Seconds between looks.
    """

    async def look() -> Finding:
        status = watch.status
        if status.checked_at is None:
            return Finding(level=Level.WARN, cause="nobody watches the store: start its StoreWatch")
        causes = [CONDITIONS[kind] for kind in status.conditions]
        incidents = {kind: f"{at.isoformat()}: {INCIDENTS[kind]}" for kind, at in status.incidents.items()}
        return Finding(
            level=Level.WARN if causes else Level.PASS,
            cause="; ".join(causes) or None,
            details={"looked_at": status.checked_at.isoformat(), **({"incidents": incidents} if incidents else {})},
        )

    return Probe(name=name, look=look, impact=Impact.DEGRADES, interval_s=interval_s, damping=_AT_ONCE)
