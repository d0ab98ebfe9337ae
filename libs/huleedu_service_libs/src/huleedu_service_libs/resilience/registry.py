"""The breakers of a process under their names; health checks, console and command line read it."""

from collections.abc import Iterator
from typing import Any

from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker

__all__ = ["CircuitBreakerRegistry"]

logger = create_service_logger("huleedu_service_libs.resilience")


class CircuitBreakerRegistry:
    """Holds breakers by name. Falsy while it holds none; needs no event loop."""

    def __init__(self) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}

    def __len__(self) -> int:
        return len(self._breakers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._breakers)

    def __contains__(self, name: object) -> bool:
        return name in self._breakers

    def __repr__(self) -> str:
        return f"CircuitBreakerRegistry({', '.join(map(repr, self._breakers.values()))})"

    def register(self, name: str, breaker: CircuitBreaker) -> None:
        """Keep ``breaker`` under ``name``; another one there is replaced, with a warning."""
        if self._breakers.get(name, breaker) is not breaker:
            logger.warning("circuit_breaker_replaced", name=name)
        self._breakers[name] = breaker

    def get(self, name: str) -> CircuitBreaker | None:
        """The breaker of that name, or ``None``."""
        return self._breakers.get(name)

    def get_all_states(self) -> dict[str, dict[str, Any]]:
        """`CircuitBreaker.get_state` of each, by registered name."""
        return {name: breaker.get_state() for name, breaker in self._breakers.items()}

    def reset_all(self) -> None:
        """Close every circuit."""
        for breaker in tuple(self._breakers.values()):  # a listener may register another
            breaker.reset()
