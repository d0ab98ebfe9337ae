"""What Redis says of itself, and what that means for the memory of processed events. Pure.

`StoreWatch` asks Redis and tells what is found here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = ["CONDITIONS", "INCIDENTS", "StoreFacts", "StoreStatus", "conditions_of", "incidents_between"]

INCIDENTS: dict[str, str] = {
    "restarted": "Redis was restarted or another server took over: what was not yet on disk or copied is forgotten; "
    "set appendonly yes, and min-replicas-to-write where there are replicas",
    "data_lost": "Redis has forgotten what was stored before (FLUSHALL, a restart without persistence, a failover or "
    "eviction): events processed before this moment run again when they are redelivered; handlers that must not "
    "repeat need the inbox",
    "evicted": "Redis has evicted keys for want of memory: events whose keys went run again when they are redelivered; "
    "raise maxmemory, or give idempotency a Redis of its own with maxmemory-policy noeviction",
}
"""What has happened, by kind, and what to do about it."""

CONDITIONS: dict[str, str] = {
    "unreachable": "Redis does not answer: handlers run unprotected, or not at all, as their store_down says",
    "unobservable": "Redis does not answer INFO: restarts and eviction go unnoticed; allow the command +info in its ACL",
    "loading": "Redis is loading its data set and refuses commands until it has; this ends by itself",
    "eviction_policy": "Redis may evict keys of processed events: set maxmemory-policy noeviction",
}
"""What is the case, by kind, and what to do about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """One look at Redis.

    Attributes:
        reachable: Whether it answered at all.
        marker: What stood under the watch's own key; ``None`` when nothing did.
        info: Its answer to ``INFO``; ``None`` when it gave none.
    """

    reachable: bool
    marker: str | None = None
    info: Mapping[str, Any] | None = None

    def text(self, name: str) -> str:
        """A field of ``INFO``, empty when unknown."""
        return str((self.info or {}).get(name, ""))

    def number(self, name: str) -> int:
        """A field of ``INFO``, 0 when unknown."""
        text = self.text(name)
        return int(text) if text.isdigit() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreStatus:
    """What is known of the store, for health answers.

    Attributes:
        checked_at: When it was last looked at; ``None`` before the first time.
        conditions: Kinds of `CONDITIONS` that hold now.
        incidents: Kinds of `INCIDENTS` that have happened since the start, with the time of the last.
        run_id: The server's run.
        eviction_policy: Its ``maxmemory-policy``.
        evicted_keys: Evicted since its start.
    """

    checked_at: datetime | None = None
    conditions: tuple[str, ...] = ()
    incidents: Mapping[str, datetime] = field(default_factory=dict)
    run_id: str = ""
    eviction_policy: str = ""
    evicted_keys: int = 0

    @property
    def healthy(self) -> bool:
        """Whether it was looked at and nothing is the matter now."""
        return self.checked_at is not None and not self.conditions

    @property
    def problems(self) -> tuple[str, ...]:
        """A sentence for each condition and each incident, with what to do."""
        told = [CONDITIONS[kind] for kind in self.conditions]
        return (*told, *(f"{INCIDENTS[kind]} (last {at.isoformat()})" for kind, at in self.incidents.items()))


def conditions_of(facts: StoreFacts) -> tuple[str, ...]:
    """Kinds of `CONDITIONS` that hold."""
    if not facts.reachable:
        return ("unreachable",)
    if facts.info is None:
        return ("unobservable",)
    found = []
    if facts.number("loading"):
        found.append("loading")
    policy = facts.text("maxmemory_policy")
    if facts.number("maxmemory") and policy not in {"", "noeviction"}:  # without a limit nothing is evicted
        found.append("eviction_policy")
    return tuple(found)


def incidents_between(before: StoreFacts | None, now: StoreFacts, *, marker: str | None) -> tuple[str, ...]:
    """Kinds of `INCIDENTS` that have happened between two looks.

    Args:
        before: The last look at which ``INFO`` was answered.
        now: The present one.
        marker: What stood under the watch's key when it last stood there.
    """
    found = []
    if before is not None and now.info is not None:
        same_run = before.text("run_id") == now.text("run_id")
        if not same_run:
            found.append("restarted")
        elif now.number("evicted_keys") > before.number("evicted_keys"):
            found.append("evicted")
    if now.reachable and marker is not None and now.marker != marker:
        found.append("data_lost")
    return tuple(found)
