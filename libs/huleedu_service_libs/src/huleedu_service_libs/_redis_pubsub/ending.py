"""Cancellations that a driver may lose.

redis-py sends with `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that
arrives together with the result (https://github.com/python/cpython/issues/86296). A loop around
it would go on, and who waits for its end, or for its time limit, would wait for ever. Knows nothing
of what the tasks do.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

__all__ = ["end", "keeps_cancellation"]

_AGAIN_S = 0.1  # a cancellation that was lost is asked for again after this long


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended; whatever they raise is theirs."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # seen: the first error of all is raised by who waited for it


def keeps_cancellation() -> Callable[[], None]:
    """A check for the current task, to be called after a driver's call.

    Returns:
        A function that raises `asyncio.CancelledError` when a cancellation was asked for since and has
        been lost; an `asyncio.timeout` around it makes of that what it always does.
    """
    task = asyncio.current_task()
    before = 0 if task is None else task.cancelling()

    def check() -> None:
        if task is not None and task.cancelling() > before:
            raise asyncio.CancelledError

    return check
