"""What a look at a part of the service can find, and what that means for the service. Plain data.

Probes make findings, `damping` steadies them, `verdicts` draws conclusions. Knows no part by name.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, IntEnum
from typing import Any

from huleedu_service_libs.health.damping import Damping

__all__ = ["PASSING", "ComponentDownError", "ComponentState", "Finding", "Impact", "Level", "Life", "Probe"]


class ComponentDownError(Exception):
    """Raised by a look that got no answer; its text is the cause as people read it."""


class Level(IntEnum):
    """How something is doing; the greater the worse. The words are those of ``application/health+json``."""

    PASS = 0
    WARN = 1
    FAIL = 2

    @property
    def word(self) -> str:
        """``pass``, ``warn`` or ``fail``."""
        return self.name.lower()


class Impact(Enum):
    """What a component that has failed means for the service.

    Attributes:
        DEGRADES: The service goes on and says so: right for everything that all replicas share, since none of them
            would be better off without traffic.
        UNREADY: This replica takes no traffic until it is over: right for what only this replica has.
        RESTART: Only a new process helps: the liveness probe fails. Right for our own loops, never for a server.
    """

    DEGRADES = "degrades"
    UNREADY = "unready"
    RESTART = "restart"


class Life(Enum):
    """Where the service is between start and stop."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look has found.

    Attributes:
        level: How it is.
        cause: Why it is not well, in a sentence for people; secrets are removed before it is shown.
        details: Figures and names, as JSON values; secrets are removed here, too.
    """

    level: Level = Level.PASS
    cause: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


PASSING = Finding()


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A component, and how to look at it.

    Attributes:
        name: In answers, metrics and logs; lower-case letters, digits, underscores and hyphens.
        look: Finds out how it is, over a connection of its own. What it raises is a failure with that cause;
            returning ``None`` is well.
        impact: What its failure means.
        kind: ``datastore``, ``component`` or ``system``, the ``componentType`` of the answer.
        interval_s: Seconds from the end of one look to the next.
        timeout_s: Seconds that a look may take.
        damping: How many looks must agree.

    Raises:
        ValueError: A time is not positive, or the name is unfit.
    """

    name: str
    look: Callable[[], Awaitable[Finding | None]]
    impact: Impact = Impact.DEGRADES
    kind: str = "component"
    interval_s: float = 5.0
    timeout_s: float = 3.0
    damping: Damping = field(default_factory=Damping)

    def __post_init__(self) -> None:
        if not self.name or not set(self.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-"):
            raise ValueError(f"name {self.name!r} of a probe must consist of a-z, 0-9, _ and -")
        for name in ("interval_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of probe {self.name!r} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentState:
    """How a component is, as told to the outside.

    Attributes:
        name: As in `Probe`.
        kind: As in `Probe`.
        impact: As in `Probe`.
        level: Damped; ``None`` as long as nobody has looked.
        cause: Why it is not well.
        since: When the first look found what is told now.
        details: Of the newest look.
        looked_at: When that was.
        took_s: Seconds that it took.
        pending: What the newest look found, where that is not told yet because too few looks agree.
    """

    name: str
    kind: str
    impact: Impact
    level: Level | None = None
    cause: str | None = None
    since: datetime | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    looked_at: datetime | None = None
    took_s: float | None = None
    pending: Level | None = None
