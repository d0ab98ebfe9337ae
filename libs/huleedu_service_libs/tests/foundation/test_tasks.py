"""Background tasks are held, their deaths are told, and their end takes no longer than it may."""

import asyncio
import contextvars
import gc
import time
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from huleedu_service_libs._tasks import attended, begin, end, is_cancelled, leave, limited, look_away

from ..waiting import until


def _count(metric: str, task: str) -> float:
    return REGISTRY.get_sample_value(f"huleedu_background_tasks_{metric}_total", {"task": task}) or 0.0


async def _turns(count: int = 3) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_task_that_nobody_holds_lives_until_it_has_ended() -> None:
    """The garbage collector does not take a task that waits for something only it knows."""
    ended = []

    async def work() -> None:
        waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        me = weakref.ref(waits)

        def wake() -> None:
            found = me()
            if found is not None:
                found.set_result(None)

        asyncio.get_running_loop().call_later(0.05, wake)
        await waits
        ended.append(True)

    _ = begin(work(), name="test-held")
    del _
    await _turns()
    gc.collect()
    await until(lambda: ended == [True])


async def test_a_death_is_counted_and_logged_with_its_cause() -> None:
    """An error that ends a background task has a counter and one line with the task's name, without a secret."""

    async def fails() -> None:
        raise ValueError("redis://user:secret@host refuses")

    before = _count("died", "test-fails")
    with capture_logs() as logs:
        _ = begin(fails(), name="test-fails")
        await _turns()
    assert _count("died", "test-fails") == before + 1
    (line,) = [line for line in logs if line["event"] == "background_task_died"]
    assert (line["task"], line["error_type"]) == ("test-fails", "ValueError")
    assert "secret" not in line["error"]


async def test_a_death_is_told_by_its_owner_where_it_wants_to() -> None:
    """The owner's own telling takes the place of the line; the counter stays."""
    told: list[BaseException] = []

    async def fails() -> None:
        raise ValueError("no")

    with capture_logs() as logs:
        _ = begin(fails(), name="test-told", died=told.append)
        await _turns()
    assert [str(error) for error in told] == ["no"]
    assert logs == []
    assert _count("died", "test-told") == 1


async def test_a_stray_cancellation_is_a_death() -> None:
    """A loop that ends by a cancellation that came out of a driver, and that nobody asked for, has died."""

    async def strays() -> None:
        raise asyncio.CancelledError

    told: list[BaseException] = []
    _ = begin(strays(), name="test-strays", died=told.append)
    await _turns()
    assert [type(error) for error in told] == [asyncio.CancelledError]


@pytest.mark.parametrize("cleans_up", [False, True])
async def test_an_end_that_was_asked_for_is_no_death(*, cleans_up: bool) -> None:
    """A task that returns, or is cancelled by its owner, is not told; what its cleaning up raises is."""

    async def runs() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            if cleans_up:
                raise ValueError("in the end")

    told: list[BaseException] = []
    task = begin(runs(), name="test-asked", died=told.append)
    await _turns()
    assert await end(task, limit_s=10)
    await _turns()
    assert [str(error) for error in told] == ["in the end"] * cleans_up
    assert await end(task, limit_s=10)  # again


async def test_a_task_has_its_patience() -> None:
    """A task that ends by itself in time is not cancelled."""
    task = begin(asyncio.sleep(0.01, "whole"), name="test-patience")
    assert await end(task, patience_s=20, limit_s=20)
    assert task.result() == "whole"


async def test_who_holds_out_is_left_behind_and_told() -> None:
    """A task that ignores its cancellation holds up nobody: it is counted, logged and left."""
    release = asyncio.Event()

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = begin(deaf(), name="test-deaf")
    await _turns()
    began = time.monotonic()
    with capture_logs() as logs:
        ended = await end(task, limit_s=0.05)
    release.set()
    assert not ended
    assert time.monotonic() - began < 20
    assert [(line["event"], line["task"]) for line in logs] == [("background_task_left_behind", "test-deaf")]
    assert _count("left_behind", "test-deaf") == 1
    assert await end(task, patience_s=20, limit_s=20)


async def test_a_caller_that_is_cancelled_is_cancelled() -> None:
    """Ending a task swallows no cancellation of the one who ends it."""
    release = asyncio.Event()

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await release.wait()

    task = begin(slow(), name="test-slow")
    await _turns()
    stopping = attended(end(task, limit_s=60), name="test-stopping")
    await _turns()
    stopping.cancel()
    await asyncio.wait([stopping], timeout=20)
    assert stopping.cancelled()
    release.set()
    assert await end(task, limit_s=20)


async def test_what_is_left_is_nobody_s_business() -> None:
    """A task that is left is cancelled, and what it raises then is not reported as unseen."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))

    async def fails() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("late")

    task = attended(fails(), name="test-left")
    await _turns()
    leave(task)
    gone = weakref.ref(task)
    del task
    await _turns()
    gc.collect()
    assert reports == []
    assert gone() is None


async def test_work_in_time_gives_its_result_or_its_error() -> None:
    """Limited work returns what it returns, raises what it raises, and calls a stray cancellation by its name."""

    async def fails() -> None:
        raise ValueError("no")

    async def strays() -> None:
        raise asyncio.CancelledError

    assert await limited(asyncio.sleep(0, "whole"), limit_s=20) == "whole"
    with pytest.raises(ValueError, match="no"):
        await limited(fails(), limit_s=20)
    with pytest.raises(RuntimeError, match="cancelled from within"):
        await limited(strays(), limit_s=20)


@pytest.mark.parametrize("by", ["limit", "caller"])
async def test_work_that_is_late_is_left_even_if_it_holds_out(by: str) -> None:
    """Whoever waits is free at the limit, or when it is cancelled, whatever the work does with its own cancellation."""
    left: list[asyncio.Future[None]] = []
    release = asyncio.Event()

    async def deaf() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await release.wait()

    waits = attended(limited(deaf(), limit_s=0.02 if by == "limit" else 60, left=left.append), name="test-limited")
    await _turns()
    if by == "caller":
        waits.cancel()
    await asyncio.wait([waits], timeout=20)
    release.set()
    assert waits.cancelled() if by == "caller" else isinstance(waits.exception(), TimeoutError)
    assert len(left) == 1
    assert not left[0].done()  # it holds out until the next turn
    await asyncio.wait(left, timeout=20)


async def test_a_task_has_the_context_that_it_is_given() -> None:
    """Work begun in an empty context logs nothing of the caller's."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    variable.set("the caller's")

    async def seen() -> str:
        return variable.get()

    makers: list[Callable[..., Awaitable[str]]] = [begin, attended]
    for make in makers:
        assert await make(seen(), name="x") == "the caller's"
        assert await make(seen(), name="x", context=contextvars.Context()) == ""


async def test_who_was_cancelled_knows_it() -> None:
    """A cancellation that somebody asked for is told apart from one that came from within."""
    found = []

    async def strays() -> None:
        raise asyncio.CancelledError

    async def asks(work: Awaitable[None]) -> None:
        try:
            await work
        except asyncio.CancelledError:
            found.append(is_cancelled())

    for work in (strays(), asyncio.sleep(60)):
        task = attended(asks(work), name="test-asks")
        await _turns()
        task.cancel()
        await asyncio.wait([task], timeout=20)
        look_away(task)
    assert found == [False, True]
