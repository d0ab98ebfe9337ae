"""Tasks: how they begin, who sees what becomes of them, and how they end. Nothing else in this library makes one.

Whoever has work that goes on beside its calls begins it with `begin` and ends it with `end` in its ``stop()``; whoever
takes the outcome itself uses `attended`, or `limited`, which waits no longer than it is told. Knows nothing of what
the tasks do.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from functools import partial
from typing import Any, TypeVar

from huleedu_service_libs._metrics import counter
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["attended", "begin", "end", "is_cancelled", "leave", "limited", "look_away"]

_T = TypeVar("_T")

_DIED = counter("huleedu_background_tasks_died_total", "Background tasks that an error has ended", ("task",))
_LEFT_BEHIND = counter(
    "huleedu_background_tasks_left_behind_total", "Background tasks that held out against their end", ("task",)
)

_held: set["asyncio.Future[Any]"] = set()
"""Tasks that nobody awaits: the event loop itself would let the garbage collector take them."""

logger = create_service_logger("huleedu_service_libs.tasks")


def begin(
    work: Coroutine[Any, Any, _T],
    *,
    name: str,
    died: Callable[[BaseException], object] | None = None,
    context: Context | None = None,
) -> "asyncio.Task[_T]":
    """Begin work that nobody awaits. It is held until it ends; an end by an error is counted and logged.

    Args:
        work: Ends when it is cancelled.
        name: Of the task, in log and metric: what it does and for whom, the same for all that do the same.
        died: Tells of the error in the place of the log line. A task that a stray cancellation has ended, which nobody
            asked of it, has died as well.
        context: Of the task; a copy of the caller's by default.
    """
    task = asyncio.create_task(work, name=name, context=context)
    _held.add(task)
    task.add_done_callback(_ended if died is None else partial(_ended, died=died), context=context)
    return task


def attended(work: Coroutine[Any, Any, _T], *, name: str, context: Context | None = None) -> "asyncio.Task[_T]":
    """Begin work whose outcome the caller takes: it holds the task, and awaits it or looks at it when it has ended."""
    return asyncio.create_task(work, name=name, context=context)


async def limited(
    work: Awaitable[_T], *, limit_s: float, left: Callable[["asyncio.Future[_T]"], object] = lambda _: None
) -> _T:
    """What ``work`` returns, in time: work that does not even end when it is cancelled is left behind.

    ``asyncio.timeout`` would wait for its end.

    Args:
        work: Is cancelled when the time is up, or when the caller is.
        limit_s: Seconds.
        left: Is told of the task then.

    Raises:
        TimeoutError: The time is up.
        RuntimeError: ``work`` was cancelled from within.
        Exception: What ``work`` raised.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=limit_s)
    except asyncio.CancelledError:
        leave(task)
        left(task)
        raise
    if not done:
        leave(task)
        left(task)
        raise TimeoutError(f"no answer within {limit_s:g} s")
    if task.cancelled():
        raise RuntimeError("it was cancelled from within")
    return task.result()


async def end(*tasks: "asyncio.Task[Any]", patience_s: float = 0.0, limit_s: float, again_s: float = math.inf) -> bool:
    """Wait for tasks, cancel those that take too long, and look away from what they raise.

    A task that holds out against its cancellation is left behind, counted and logged: a ``stop()`` never hangs on it.
    A caller that is itself cancelled waits no longer.

    Args:
        tasks: They may have ended already.
        patience_s: Seconds before they are cancelled.
        limit_s: Seconds that a cancelled one may take to clean up.
        again_s: Seconds after which one is cancelled again. For drivers that may lose a cancellation; whoever cleans
            up for longer is disturbed by it.

    Returns:
        Whether all have ended.
    """
    pending = {task for task in tasks if not task.done()}
    if pending and patience_s > 0:
        _, pending = await asyncio.wait(pending, timeout=patience_s)
    late = await _cancelled(pending, limit_s, again_s)
    for task in set(tasks) - late:
        look_away(task)
    for task in late:
        _LEFT_BEHIND.labels(task=task.get_name()).inc()
        logger.error("background_task_left_behind", task=task.get_name(), limit_s=limit_s)
    return not late


def leave(*tasks: "asyncio.Future[Any]") -> None:
    """Cancel tasks that nobody waits for any more, and look away from what they raise. They are held until they end."""
    for task in tasks:
        _held.add(task)
        task.add_done_callback(_let_go)
        task.cancel()


def look_away(task: "asyncio.Future[Any]") -> None:
    """What has come of it is nobody's business any more, or was told already: asyncio need not report it as unseen."""
    if not task.cancelled():
        task.exception()


async def _cancelled(pending: "set[asyncio.Task[Any]]", limit_s: float, again_s: float) -> "set[asyncio.Task[Any]]":
    """Cancel them, and say which have not ended when the time is up."""
    clock = asyncio.get_running_loop().time
    until = clock() + limit_s
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=max(0.0, min(again_s, until - clock())))
        if clock() >= until:
            break
    return pending


def is_cancelled() -> bool:
    """Whether somebody has asked the running task to end; a cancellation without that came from within what it awaits."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


def _let_go(task: "asyncio.Future[Any]") -> None:
    _held.discard(task)
    look_away(task)


def _ended(task: "asyncio.Task[Any]", died: Callable[[BaseException], object] | None = None) -> None:
    _held.discard(task)
    error = _error_of(task)
    if error is None:
        return
    _DIED.labels(task=task.get_name()).inc()
    if died is not None:
        died(error)
    else:
        logger.error("background_task_died", task=task.get_name(), **error_fields(error), exc_info=error)


def _error_of(task: "asyncio.Task[Any]") -> BaseException | None:
    if not task.cancelled():
        return task.exception()
    if task.cancelling():  # somebody has asked for it
        return None
    return asyncio.CancelledError("a cancellation that nobody asked of this task came out of what it awaited")
