"""Looks at the circuit breakers of the process. An open one protects the service: it is told, and refuses nothing more."""

from huleedu_service_libs.health.damping import Damping
from huleedu_service_libs.health.findings import Finding, Impact, Level, Probe
from huleedu_service_libs.resilience.registry import CircuitBreakerRegistry

__all__ = ["breakers_probe"]

_AT_ONCE = Damping(falls_after=1, rises_after=1)


def breakers_probe(
    registry: CircuitBreakerRegistry, *, name: str = "circuit_breakers", interval_s: float = 5.0
) -> Probe:
    """Every breaker of the registry; those that are not closed are ``WARN``.

    Args:
        registry: Of the process.
        name: Of the component.
        interval_s: Seconds between looks.
    """

    async def look() -> Finding:
        breakers = {one: breaker.describe() for one in registry if (breaker := registry.get(one)) is not None}
        troubled = {one: said for one, said in breakers.items() if said["state"] != "closed"}
        causes = [
            f"{one} is {said['state'].replace('_', '-')} ({said['hold'] or said['reason'] or 'no reason given'}"
            f"{_since(said['since'])})"
            for one, said in troubled.items()
        ]
        return Finding(
            level=Level.WARN if troubled else Level.PASS,
            cause="; ".join(causes) or None,
            details={one: said["state"] for one, said in breakers.items()},
        )

    # They damp by themselves: one look decides.
    return Probe(name=name, look=look, impact=Impact.DEGRADES, interval_s=interval_s, damping=_AT_ONCE)


def _since(moment: str | None) -> str:
    return f", since {moment}" if moment else ""
