"""What the machine of a breaker tells others: its states, holds, and changes.

``machine`` makes the changes; breakers, reports, spans, console and listeners read them.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from common_core import CircuitBreakerState

__all__ = ["CLOSED", "HALF_OPEN", "IS_OPEN", "OPEN", "Hold", "StateChange"]

IS_OPEN = "is OPEN"
"""Why an open circuit refuses; the end of the sentence."""

CLOSED = CircuitBreakerState.CLOSED
OPEN = CircuitBreakerState.OPEN
HALF_OPEN = CircuitBreakerState.HALF_OPEN


class Hold(Enum):
    """A decision of a person that stands above the counting."""

    ISOLATED = "isolated"
    FORCED_CLOSED = "forced_closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """What a listener is told.

    Attributes:
        name: The breaker.
        old: The state before.
        new: The state now.
        failure_count: Failures in a row when it happened.
        open_seconds: How long calls are refused, when it opened.
        reason: ``failures``, ``trial_failed``, ``trial``, ``recovered``, ``undecided``, ``assigned``, ``reset``, ``held``.
        at: The time of day.
    """

    name: str
    old: CircuitBreakerState
    new: CircuitBreakerState
    failure_count: int
    open_seconds: float
    reason: str
    at: datetime
