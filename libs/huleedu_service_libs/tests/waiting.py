"""Waiting for what happens in the background, on a machine that others use too."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], limit_s: float = 40.0) -> None:
    """Wait until ``condition()`` holds.

    Raises:
        TimeoutError: It does not within ``limit_s``.
    """
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.005)
