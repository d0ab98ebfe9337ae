"""The real time and the real sleep, as defaults of parameters; tests pass their own."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

__all__ = ["Now", "Sleep", "sleep", "utc_now"]

Now = Callable[[], datetime]
"""The time of day, with time zone."""

Sleep = Callable[[float], Awaitable[None]]
"""Wait for that many seconds."""


def utc_now() -> datetime:
    """The time of day in UTC."""
    return datetime.now(UTC)


async def sleep(seconds: float) -> None:
    """Wait for ``seconds``."""
    await asyncio.sleep(seconds)
