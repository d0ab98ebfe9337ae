"""How background tasks end: by themselves if they are given time, else by cancellation, and within a limit.

Whoever has a task of its own ends it with this in its ``stop()``. Knows nothing of what the tasks do.
"""

import asyncio
from typing import Any

__all__ = ["end"]


async def end(*tasks: "asyncio.Task[Any]", patience_s: float = 0.0, limit_s: float) -> bool:
    """Wait for tasks, cancel those that take too long, and look away from what they raise.

    A task that holds out against its cancellation is left behind: a ``stop()`` never hangs on it.

    Args:
        tasks: They may have ended already.
        patience_s: Seconds before they are cancelled.
        limit_s: Seconds that a cancelled one may take to clean up.

    Returns:
        Whether all have ended.
    """
    pending = {task for task in tasks if not task.done()}
    if pending and patience_s > 0:
        _, pending = await asyncio.wait(pending, timeout=patience_s)
    for task in pending:
        task.cancel()
    if pending:
        _, pending = await asyncio.wait(pending, timeout=limit_s)
    for task in set(tasks) - pending:
        if not task.cancelled():
            task.exception()  # seen, or the loop would complain that nobody has
    return not pending
