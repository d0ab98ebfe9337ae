"""A cancellation that the driver loses ends what it was meant to end.

Before Python 3.12 `asyncio.wait_for`, with which redis-py sends, forgets a cancellation that
arrives together with its result; the doubles here do so always.
"""

import asyncio
import time
from typing import Any

from huleedu_service_libs._redis_pubsub.cancellation import CANCEL_AGAIN_S
from huleedu_service_libs._redis_pubsub.cursor import Cursor, Page
from huleedu_service_libs._redis_pubsub.follower import Follower, WakeUp
from huleedu_service_libs._redis_pubsub.history import NotificationHistory
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs._tasks import end


async def _deaf(seconds: float) -> bool:
    """Sleep, and forget one cancellation; whether there was one."""
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        return True
    return False


class _DeafHistory:
    """Nothing is in it, and a cancellation of the reading is lost."""

    async def after(self, channel: str, place: Cursor) -> Page:
        """An empty page."""
        await _deaf(0.1)
        return Page(place.epoch, place.offset, [])


def _follower() -> Follower:
    history: Any = _DeafHistory()
    return Follower(
        "ws:u",
        history=history,
        place=Cursor("e", 0, "0-0"),
        wake_up=WakeUp(),
        config=NotificationHistory(poll_s=60.0),
        reports=Reports("lost-cancellations"),
    )


async def test_a_reader_returns_when_its_time_is_up() -> None:
    """The time limit of a read holds although the driver has lost the cancellation behind it."""
    began = time.monotonic()
    assert await asyncio.wait_for(_follower().get(timeout=0.02), 20.0) is None
    assert time.monotonic() - began < 15.0


async def test_a_cancelled_reader_ends() -> None:
    """A task that reads ends when it is cancelled although the driver has lost the cancellation."""
    task = asyncio.create_task(anext(_follower()))
    await asyncio.sleep(0.02)
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=20.0)
    assert done
    assert task.cancelled()


async def test_a_loop_around_a_lost_cancellation_is_ended() -> None:
    """What goes on after a cancellation is cancelled again, and errors of the tasks are theirs."""
    lost = 0

    async def loop() -> None:
        nonlocal lost
        while True:
            lost += await _deaf(30.0) if lost == 0 else await asyncio.sleep(30.0, result=False)

    async def fails() -> None:
        raise ValueError("theirs")

    tasks = {asyncio.create_task(loop()), asyncio.create_task(fails())}
    await asyncio.sleep(0)
    async with asyncio.timeout(20.0):
        assert await end(*tasks, limit_s=20.0, again_s=CANCEL_AGAIN_S)
    assert lost == 1
    assert all(task.done() for task in tasks)
