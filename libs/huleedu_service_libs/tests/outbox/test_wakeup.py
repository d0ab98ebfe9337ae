"""Waking and being woken, when Redis is well and when it is not."""

import asyncio
import gc
import warnings
from typing import Any
from unittest.mock import AsyncMock

from huleedu_service_libs.outbox.wake_sending import WakeSender
from huleedu_service_libs.outbox.wakeup import LONGEST_PAUSE_S, WakeListener
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

from ..waiting import until

KEY = "outbox:wake:svc"


async def test_a_listener_outlives_an_outage_of_any_length() -> None:
    """After thousands of failures it still listens, pausing no longer than the limit."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    pauses: list[float] = []
    outage = 3_000

    async def blpop(**_: Any) -> Any:
        if len(pauses) < outage:
            raise ConnectionError("redis is away")
        return (KEY, "wake")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    redis.blpop.side_effect = blpop
    listener = WakeListener(redis, KEY, None, sleep=sleep)
    listener.start()
    assert await listener.wait(30.0)
    await listener.stop()
    assert max(pauses[:outage]) <= LONGEST_PAUSE_S


async def test_one_look_takes_all_tokens() -> None:
    """The list is emptied before the relay looks, so that tokens do not pile up."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.blpop.side_effect = [(KEY, "wake"), None]
    listener = WakeListener(redis, KEY, None)
    listener.start()
    assert await listener.wait(5.0)
    redis.delete_key.assert_awaited_once_with(KEY)
    await listener.stop()


async def test_a_driver_that_loses_the_cancellation_does_not_hold_up_the_stop() -> None:
    """The loop also ends by its flag."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    swallowed = asyncio.Event()

    async def blpop(**_: Any) -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.set()
        return None

    redis.blpop.side_effect = blpop
    listener = WakeListener(redis, KEY, None)
    listener.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await listener.stop()
    assert swallowed.is_set()


async def test_waiting_ends_in_time_without_a_wake_up() -> None:
    """Nobody wakes: the wait ends by itself and says so."""
    assert not await WakeListener(None, KEY, None).wait(0.001)


async def test_a_wake_up_that_is_cancelled_before_it_began_leaves_nothing_unawaited() -> None:
    """A process that ends right after a commit is not warned of a coroutine that nobody awaited."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    sender = WakeSender(redis, "svc")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        sender.send_soon()
        sending = sender._sending
        assert sending is not None
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        del sending
        sender._sending = None
        gc.collect()
    assert [str(each.message) for each in warned if "never awaited" in str(each.message)] == []


async def test_commits_while_a_wake_up_is_under_way_share_the_next() -> None:
    """A hundred commits at once cost two tokens: the one under way, and one after the last of them."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    gate = asyncio.Event()

    async def lpush(*_: Any) -> int:
        await gate.wait()
        return 1

    redis.lpush.side_effect = lpush
    sender = WakeSender(redis, "svc")
    sender.send_soon()
    await until(lambda: redis.lpush.called)
    for _ in range(100):
        sender.send_soon()
    gate.set()
    await until(lambda: sender._sending is None)
    assert redis.lpush.call_count == 2
