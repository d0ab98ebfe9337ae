"""The real clock and the real sleep, as defaults for parameters.

Every module that waits or measures takes ``clock`` and ``sleep`` parameters
and defaults to these; a test passes its own. Nothing else names
``asyncio.sleep``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

__all__ = ["Clock", "Now", "Sleep", "monotonic", "sleep", "utc_now"]

Clock = Callable[[], float]
"""Monotonic seconds from an arbitrary start."""

Now = Callable[[], datetime]
"""The time of day, with time zone."""

Sleep = Callable[[float], Awaitable[None]]
"""Wait for that many seconds."""

monotonic: Clock = time.monotonic


async def sleep(seconds: float) -> None:
    """Wait for ``seconds`` without blocking the event loop."""
    await asyncio.sleep(seconds)


def utc_now() -> datetime:
    """The time of day in UTC, with time zone."""
    return datetime.now(UTC)
