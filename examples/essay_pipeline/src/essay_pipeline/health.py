"""``/healthz``, the same for all services.

A check is an async function that returns when its dependency answers and raises
when it does not. Knows no web framework.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.resilience import CircuitBreakerRegistry

__all__ = [
    "Check",
    "check_kafka",
    "check_redis",
    "check_running",
    "health_report",
]

Check = Callable[[], Awaitable[None]]

_LIMIT_S = 2.0


async def health_report(
    service: str,
    checks: Mapping[str, Check],
    limit: float = _LIMIT_S,
    breakers: CircuitBreakerRegistry | None = None,
) -> tuple[int, dict[str, Any]]:
    """Run all checks at the same time.

    Args:
        service: Name for the report.
        checks: By name of the dependency.
        limit: Seconds after which a check counts as failed.
        breakers: Their states are shown; an open one does not make the service unhealthy, it protects it.

    Returns:
        HTTP status (200 or 503) and body; the body gives ``ok`` or the reason for each check.
    """
    results = await asyncio.gather(*(_outcome(check, limit) for check in checks.values()))
    outcomes = dict(zip(checks, results, strict=True))
    healthy = all(outcome == "ok" for outcome in outcomes.values())
    body: dict[str, Any] = {"service": service, "status": "healthy" if healthy else "unhealthy", "checks": outcomes}
    if breakers:
        body["circuit_breakers"] = {name: each["state"] for name, each in breakers.get_all_states().items()}
    return (200 if healthy else 503), body


async def check_redis(redis: RedisClientProtocol) -> None:
    """Ping.

    Raises:
        ConnectionError: Redis does not answer.
    """
    if not await redis.ping():
        raise ConnectionError("no answer to PING")


async def check_kafka(bus: KafkaBus) -> None:
    """Ask a broker for its metadata, through the producer in use.

    Raises:
        ConnectionError: No broker answers.
    """
    if not await bus.ping():
        raise ConnectionError("no broker answers")


class Runs(Protocol):
    """A part with a background loop."""

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive."""
        ...


async def check_running(part: Runs) -> None:
    """Look whether a background loop is alive.

    Raises:
        RuntimeError: It has ended.
    """
    if not part.is_running:
        raise RuntimeError("not running")


async def _outcome(check: Check, limit: float) -> str:
    try:
        async with asyncio.timeout(limit):
            await check()
    except TimeoutError:
        return f"no answer within {limit:g} s"
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the reason
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return "ok"
