"""Cancellations that a driver may lose.

redis-py sends with `asyncio.wait_for`, which before Python 3.12 forgets a cancellation that
arrives together with the result (https://github.com/python/cpython/issues/86296). A loop around
it would go on, and who waits for its end, or for its time limit, would wait for ever. Knows nothing
of what the tasks do.
"""

import asyncio
from collections.abc import Callable

__all__ = ["CANCEL_AGAIN_S", "keeps_cancellation"]

CANCEL_AGAIN_S = 0.1
"""A cancellation that was lost is asked for again after so many seconds."""


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
