"""The section of the console that shows a registry's circuit breakers, and can reset or hold them."""

from datetime import datetime
from typing import Any

from common_core import CircuitBreakerState
from huleedu_service_libs import _clock
from huleedu_service_libs.console.ages import ago
from huleedu_service_libs.console.sections import (
    Action,
    ActionRefusedError,
    Cell,
    Reading,
    Row,
    Table,
    Tone,
    UnknownTargetError,
)
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.registry import CircuitBreakerRegistry

__all__ = ["BreakersSection"]

_RESET = Action(name="reset", label="Reset", meaning="close it, forget its failures, and end a hold")
_ISOLATE = Action(name="isolate", label="Isolate", meaning="refuse every call until it is reset")
_DONE = {
    "reset": "is closed, and has forgotten its failures",
    "isolate": "refuses every call until it is reset",
    "close": "lets every call through until it is reset",
}

_TONES = {
    CircuitBreakerState.OPEN.value: Tone.BAD,
    CircuitBreakerState.HALF_OPEN.value: Tone.WARNING,
    CircuitBreakerState.CLOSED.value: Tone.GOOD,
}
_WORST_FIRST = [CircuitBreakerState.OPEN.value, CircuitBreakerState.HALF_OPEN.value, CircuitBreakerState.CLOSED.value]

_WHY = {
    "failures": "too many failures",
    "trial_failed": "a trial call failed",
    "trial": "open time is over, trial calls decide",
    "recovered": "trial calls succeeded",
    "undecided": "trial calls brought no decision in time",
    "assigned": "set by the service's code",
    "reset": "reset by hand",
    "isolated": "isolated by hand, until it is reset",
    "forced_closed": "kept closed by hand, until it is reset",
}


class BreakersSection:
    """Shows every breaker of a registry, those in trouble first.

    Args:
        registry: The process's breakers.
        now: The time of day, for ages.

    Attributes:
        name: See `Section`.
        title: See `Section`.
    """

    name = "breakers"
    title = "Circuit breakers"

    def __init__(self, registry: CircuitBreakerRegistry, *, now: _clock.Now = _clock.utc_now) -> None:
        self._registry = registry
        self._now = now

    async def read(self) -> Reading:
        """See `Section`."""
        found = [_described(name, breaker) for name in self._registry if (breaker := self._registry.get(name))]
        found.sort(key=lambda one: (_WORST_FIRST.index(one["state"]), one["name"]))
        summary, tone = _summary(found)
        table = Table(
            caption="Circuit breakers",
            columns=("Breaker", "State", "Why", "Since", "Failures", "Calls"),
            rows=[self._row(one) for one in found],
            empty="No breakers are registered.",
        )
        return Reading(data=found, summary=summary, tone=tone, tables=[table])

    async def act(self, action: str, target: str) -> str:
        """``reset``, ``isolate`` or ``close`` a breaker.

        Raises:
            UnknownTargetError: No breaker has that name.
            ActionRefusedError: Breakers cannot do that.
        """
        breaker = self._registry.get(target)
        if breaker is None:
            names = ", ".join(sorted(self._registry)) or "none"
            raise UnknownTargetError(f"no breaker is called {target!r}; there are: {names}")
        acts = {"reset": breaker.reset, "isolate": breaker.isolate, "close": breaker.force_closed}
        if action not in acts:
            raise ActionRefusedError(f"a breaker cannot {action!r}; it can: {', '.join(acts)}")
        acts[action]()
        return f"{target} {_DONE[action]}"

    def _row(self, one: dict[str, Any]) -> Row:
        label = one["state"].replace("_", "-")
        state = Cell(text=label, tone=Tone.WARNING if one["hold"] == "forced_closed" else _TONES[one["state"]])
        since = one["since"]
        age = "-" if since is None else ago((self._now() - datetime.fromisoformat(since)).total_seconds())
        failures = Cell(
            text=str(one["failure_count"]), hint=f"opens at {one['failure_threshold']} in a row, without a window"
        )
        return Row(
            target=one["name"],
            cells=(one["name"], state, _why(one), Cell(text=age, hint=since or ""), failures, _calls(one["calls"])),
            actions=(_RESET,) if one["hold"] == "isolated" else (_RESET, _ISOLATE),
        )


def _described(name: str, breaker: CircuitBreaker) -> dict[str, Any]:
    """A breaker under the name it is registered with, which is the one to act on."""
    described = breaker.describe()
    return {**described, "name": name, "breaker": described["name"]}


def _summary(found: list[dict[str, Any]]) -> tuple[str, Tone]:
    if not found:
        return "None so far.", Tone.PLAIN
    troubled = [f"{one['name']} ({one['state'].replace('_', '-')})" for one in found if one["state"] != "closed"]
    if not troubled:
        return f"All {len(found)} closed.", Tone.GOOD
    tone = Tone.BAD if any(one["state"] == "open" for one in found) else Tone.WARNING
    return f"{len(troubled)} of {len(found)} not closed: {', '.join(troubled)}.", tone


def _why(one: dict[str, Any]) -> str:
    why = _WHY.get(one["hold"] or one["reason"] or "", one["reason"] or "no change since the start")
    left = one["retry_after_seconds"]
    if one["state"] != "open" or one["hold"]:
        return why
    return f"{why}; next trial {f'in {left:.0f} s' if left else 'at the next call'}"


def _calls(calls: dict[str, int] | None) -> Cell:
    if calls is None:
        return Cell(text="-", hint="counted by the service's own metrics")
    return Cell(text=f"{calls['success']} ok, {calls['failure']} failed, {calls['blocked']} refused")
