"""Runs a handler under a time limit that costs nothing when the handler never waits.

A timer per message is dearer than many a handler. The first step runs without one: what does not
suspend cannot be interrupted anyhow. Everything happens in the task of the caller.
"""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

__all__ = ["run_limited"]


@coroutine
def run_limited(run: Coroutine[Any, Any, Any], limit: asyncio.Timeout) -> Generator[Any, Any, None]:
    """Run to the end; ``limit`` begins when ``run`` waits for the first time.

    Raises:
        TimeoutError: The limit has expired.
        Exception: Whatever ``run`` raises.
    """
    try:
        awaited = run.send(None)
    except StopIteration:
        return
    yield from _within(limit, _rest_of(run, awaited)).__await__()


async def _within(limit: asyncio.Timeout, rest: Any) -> None:
    async with limit:
        await rest


@coroutine
def _rest_of(run: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, None]:
    """What ``yield from run`` would do, after the first step (PEP 380)."""
    while True:
        thrown: BaseException | None = None
        sent = None
        try:
            sent = yield awaited
        except GeneratorExit:
            run.close()
            raise
        except BaseException as error:  # noqa: BLE001  # goes into the handler
            thrown = error
        try:
            awaited = run.send(sent) if thrown is None else run.throw(thrown)
        except StopIteration:
            return
