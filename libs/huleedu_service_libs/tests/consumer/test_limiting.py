"""Handlers under a limit of time: those that never wait, those that do, those that fail, those that are cancelled."""

import asyncio

import pytest

from huleedu_service_libs.kafka.consumer.limiting import run_limited


async def test_what_never_waits_needs_no_timer() -> None:
    """A handler that does not suspend runs to its end, and what it raises comes out."""
    seen: list[int] = []

    async def trivial() -> None:
        seen.append(1)

    async def fails() -> None:
        raise ValueError("no")

    limit = asyncio.timeout(0.0)
    await run_limited(trivial(), limit)
    assert seen == [1]
    with pytest.raises(ValueError, match="no"):
        await run_limited(fails(), asyncio.timeout(1.0))
    assert not limit.expired()


async def test_what_waits_gets_its_results_and_its_errors() -> None:
    """Results and errors of what it awaits reach the handler, in the task that called."""
    task = asyncio.current_task()
    seen: list[object] = []

    async def works() -> None:
        seen.append(await asyncio.sleep(0.001, "slept"))
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(10)
        except TimeoutError:
            seen.append("inner")
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.001))
        seen.append(asyncio.current_task() is task)

    await run_limited(works(), asyncio.timeout(30.0))
    assert seen == ["slept", "inner", True]


async def test_what_takes_too_long_is_cancelled() -> None:
    """At the limit the handler is cancelled, its own clean-up runs, and the limit says that it expired."""
    cleaned: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    limit = asyncio.timeout(0.01)
    with pytest.raises(TimeoutError):
        await run_limited(slow(), limit)
    assert limit.expired()
    assert cleaned == ["up"]


async def test_cancelling_the_caller_cancels_the_handler() -> None:
    """A drain reaches the handler wherever it waits."""
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def call() -> None:
        await run_limited(waits(), asyncio.timeout(30.0))

    task = asyncio.create_task(call())
    await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]
