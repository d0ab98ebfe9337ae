"""Notifications that are kept: nothing lost, nothing twice, in order, across outages of a real server."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import RedisError

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import (
    FROM_START,
    Follower,
    HistoryGone,
    InvalidCursorError,
    Loss,
    Notification,
    NotificationHistory,
    PubSubConfig,
    RedisPubSub,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration

OUTAGE_S = float(os.environ.get("HULEEDU_TEST_REDIS_OUTAGE_S", "6"))
"""Longer than redis-py's own loop lives; 20 shows it for as long as the longest promise."""


def _config(size: int = 1000, **options: float) -> PubSubConfig:
    return PubSubConfig(history=NotificationHistory(size=size, **options))  # type: ignore[arg-type]  # ints and floats


@pytest.fixture(name="keeping")
async def _keeping(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="keeping", redis_url=redis_url, pubsub_config=_config()) as client:
        yield client


async def _next(follower: Follower, limit_s: float = 20.0) -> Notification | HistoryGone:
    item = await follower.get(timeout=limit_s)
    assert item is not None, "nothing came"
    return item


async def _numbers(follower: Follower, count: int, limit_s: float = 20.0) -> list[int]:
    """The next so many; a loss among them fails."""
    items = [await _next(follower, limit_s) for _ in range(count)]
    return [item.body["data"]["n"] for item in items if isinstance(item, Notification)]


async def _send(client: RedisClient | RedisPubSub, user: str, *numbers: int) -> None:
    for number in numbers:
        await client.publish_user_notification(user, "e", {"n": number})


async def test_a_follower_gets_what_is_sent_from_now_on(keeping: RedisClient, unique_name: str) -> None:
    """Without a place it begins now; the text has exactly the two keys; the id is its own business."""
    await _send(keeping, unique_name, 1)
    async with keeping.follow_user(unique_name) as follower:
        assert await follower.get(timeout=0.1) is None
        await _send(keeping, unique_name, 2)
        item = await _next(follower)
    assert isinstance(item, Notification)
    assert json.loads(item.text) == item.body == {"event": "e", "data": {"n": 2}}


async def test_who_comes_back_gets_what_was_missed(keeping: RedisClient, unique_name: str) -> None:
    """With the last id it saw, a reader gets all that followed, in order, and then what comes."""
    async with keeping.follow_user(unique_name) as follower:
        await _send(keeping, unique_name, 1, 2)
        seen = [await _next(follower) for _ in range(2)]
    await _send(keeping, unique_name, 3, 4, 5)
    async with keeping.follow_user(unique_name, after=seen[0].id) as follower:
        assert await _numbers(follower, 4) == [2, 3, 4, 5]
        await _send(keeping, unique_name, 6)
        assert await _numbers(follower, 1) == [6]
        assert await follower.get(timeout=0.1) is None
    async with keeping.follow_user(unique_name, after=FROM_START) as follower:
        assert await _numbers(follower, 6) == [1, 2, 3, 4, 5, 6]


async def test_plain_subscribers_see_no_difference(keeping: RedisClient, unique_name: str) -> None:
    """The same call still publishes the same text on the same channel."""
    async with keeping.subscribe(keeping.get_user_channel(unique_name)) as pubsub:
        assert await keeping.publish_user_notification(unique_name, "e", {"n": 1}) == 1
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=5.0)
    assert message is not None
    assert json.loads(message["data"]) == {"event": "e", "data": {"n": 1}}


async def test_more_than_a_page_arrives_in_order(redis_url: str, unique_name: str) -> None:
    """A long absence is read in pages, without a hole or a repetition between them."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        pubsub = RedisPubSub(redis, "pages", config=_config(page=7))
        await _send(pubsub, unique_name, *range(50))
        async with pubsub.follow_user(unique_name, after=FROM_START) as follower:
            assert await _numbers(follower, 50) == list(range(50))


async def test_what_the_history_no_longer_holds_is_told(redis_url: str, unique_name: str) -> None:
    """A reader that was away for too long learns how many are gone, and goes on with what is there."""
    async with Redis.from_url(redis_url) as redis:  # one that does not decode
        pubsub = RedisPubSub(redis, "small", config=_config(size=3))
        async with pubsub.follow_user(unique_name) as follower:
            await _send(pubsub, unique_name, 1)
            seen = await _next(follower)
        await _send(pubsub, unique_name, *range(2, 11))
        async with pubsub.follow_user(unique_name, after=seen.id) as follower:
            gone = await _next(follower)
            assert isinstance(gone, HistoryGone)
            assert (gone.loss, gone.missed) == (Loss.EXPIRED, 6)
            assert await _numbers(follower, 3) == [8, 9, 10]
        async with pubsub.follow_user(unique_name, after=gone.id) as follower:
            assert await _numbers(follower, 3) == [8, 9, 10], "the loss is told once"


async def test_a_history_ends_by_time_without_false_alarm(redis_url: str, unique_name: str) -> None:
    """Old notifications go; who had seen them all is told nothing, who had not is told how many."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        pubsub = RedisPubSub(redis, "brief", config=_config(keep_s=0.4, remember_s=60))
        async with pubsub.follow_user(unique_name) as follower:
            await _send(pubsub, unique_name, 1, 2)
            seen = [await _next(follower) for _ in range(2)]
        await asyncio.sleep(0.8)
        assert await redis.exists(f"{{ws:{unique_name}}}:history") == 0
        async with pubsub.follow_user(unique_name, after=seen[1].id) as follower:
            await _send(pubsub, unique_name, 3)
            assert await _numbers(follower, 1) == [3]
        async with pubsub.follow_user(unique_name, after=seen[0].id) as follower:
            gone = await _next(follower)
            assert isinstance(gone, HistoryGone)
            assert (gone.loss, gone.missed) == (Loss.EXPIRED, 1)


async def test_a_server_that_has_lost_everything_is_found_out(keeping: RedisClient, unique_name: str) -> None:
    """After a flush the numbering has another epoch: an old place is told so, and gets all of the new."""
    async with keeping.follow_user(unique_name) as follower:
        await _send(keeping, unique_name, 1, 2, 3)
        seen = [await _next(follower) for _ in range(3)]
        keys = await keeping.scan_pattern(f"{{ws:{unique_name}}}:*")
        assert len(keys) == 3
        await keeping.delete(*keys)
        await _send(keeping, unique_name, 4, 5)
        gone = await _next(follower)
        assert isinstance(gone, HistoryGone)
        assert (gone.loss, gone.missed) == (Loss.FORGOTTEN, None)
        assert await _numbers(follower, 2) == [4, 5]
    async with keeping.follow_user(unique_name, after=seen[2].id) as follower:
        assert isinstance(await _next(follower), HistoryGone)
        assert await _numbers(follower, 2) == [4, 5]


async def test_the_same_id_has_one_effect(keeping: RedisClient, unique_name: str) -> None:
    """A handler that runs again sends nothing twice, neither to readers nor to plain subscribers."""
    async with keeping.follow_user(unique_name) as follower:
        for content in (1, 2):
            await keeping.publish_user_notification(unique_name, "e", {"n": content}, notification_id="event-1")
        await keeping.publish_user_notification(unique_name, "e", {"n": 3}, notification_id="event-2")
        assert await _numbers(follower, 2) == [1, 3]
        assert await follower.get(timeout=0.1) is None


async def test_a_lost_reply_doubles_nothing(redis_url: str, unique_name: str) -> None:
    """The server has stored it, the reply is lost: the call tries again by itself, and there is one notification."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(FaultProxy(redis_url))
        lossy = RedisClient(client_id="lossy", redis_url=proxy.url, pubsub_config=_config())
        client = await stack.enter_async_context(lossy)
        await _send(client, unique_name, 1)  # the script is loaded
        proxy.lose_replies(to=b"EVALSHA")
        await _send(client, unique_name, 2)
        assert proxy.lost_replies == 1
        async with client.follow_user(unique_name, after=FROM_START) as follower:
            assert await _numbers(follower, 2) == [1, 2]
            assert await follower.get(timeout=0.1) is None


async def test_sixty_of_sixty_arrive_across_an_outage(redis_url: str, unique_name: str) -> None:
    """Sixty notifications, sent through an outage by a sender that tries again, reach a reader once each and in order.

    Whoever sends counts on its own retries, as a consumer does; the reader is not disturbed at all. The
    outage takes 6 seconds; HULEEDU_TEST_REDIS_OUTAGE_S=20 makes it 20.
    """
    async with FaultProxy(redis_url) as proxy:
        config = _config()
        async with (
            RedisClient(client_id="sends", redis_url=proxy.url, pubsub_config=config) as sender,
            RedisClient(client_id="reads", redis_url=proxy.url, pubsub_config=config) as reader,
            reader.follow_user(unique_name) as follower,
        ):
            began = time.monotonic()

            async def send() -> None:
                for number in range(60):
                    while True:
                        with suppress(RedisError):
                            await sender.publish_user_notification(
                                unique_name, "e", {"n": number}, notification_id=str(number)
                            )
                            break
                        await asyncio.sleep(0.2)
                    if number == 20:
                        proxy.refuse()
                        asyncio.get_running_loop().call_later(OUTAGE_S, proxy.heal)

            sending = asyncio.create_task(send())
            assert await _numbers(follower, 60, OUTAGE_S + 40) == list(range(60))
            await sending
            assert time.monotonic() - began >= OUTAGE_S
            assert await follower.get(timeout=0.2) is None


async def test_each_of_many_readers_gets_everything_once(keeping: RedisClient, unique_name: str) -> None:
    """Readers of one user don't take anything from each other, over one subscribing connection."""

    async def read() -> list[int]:
        async with keeping.follow_user(unique_name, after=FROM_START) as follower:
            return await _numbers(follower, 20)

    readers = [asyncio.create_task(read()) for _ in range(20)]
    for number in range(20):
        await _send(keeping, unique_name, number)
    assert await asyncio.gather(*readers) == [list(range(20))] * 20


async def test_a_quiet_reader_asks_rarely(keeping: RedisClient, unique_name: str) -> None:
    """Polling the reader does not poll the server: without news it looks once, and again after `poll_s`."""
    async with keeping.follow_user(unique_name) as follower:
        await follower.get(timeout=0.05)
        before = (await keeping.client.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
        for _ in range(20):
            assert await follower.get(timeout=0.01) is None
        after = (await keeping.client.info("commandstats")).get("cmdstat_evalsha", {}).get("calls", 0)
    assert after == before


async def test_without_a_history_its_calls_say_what_to_do(client: RedisClient) -> None:
    """Whoever asks for what was not opted into is told how."""
    with pytest.raises(ValueError, match=r"notification_id needs a history: PubSubConfig\(history="):
        await client.publish_user_notification("u", "e", {}, notification_id="x")
    with pytest.raises(RuntimeError, match=r"'test' keeps no notifications: PubSubConfig\(history="):
        async with client.follow_user("u"):
            raise AssertionError("not reached")


async def test_an_id_that_is_none_subscribes_nothing(keeping: RedisClient) -> None:
    """What a browser made up is refused before anything is asked of the server."""
    with pytest.raises(InvalidCursorError):
        async with keeping.follow_user("u", after="'; FLUSHALL"):
            raise AssertionError("not reached")
    assert REGISTRY.get_sample_value("huleedu_redis_pubsub_subscribers", {"client_id": "keeping"}) == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [({"size": 0}, "size must be positive, got 0"), ({"keep_s": 10, "remember_s": 5}, "remember_s must be at least")],
)
def test_bounds_of_a_history_check_themselves(options: dict[str, Any], text: str) -> None:
    """A history that would hold nothing, or forget its numbering before its entries, is refused."""
    with pytest.raises(ValueError, match=text):
        NotificationHistory(**options)


_STEPS = st.lists(st.sampled_from(["send", "again", "read", "return", "flush"]), max_size=12)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_STEPS, st.integers(1, 4))
async def test_whatever_happens_each_is_read_once_or_told_as_missing(
    redis_url: str, steps: list[str], size: int
) -> None:
    """Sending, repeating, reading, coming back and losing everything, in any order: every hole has been told of."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        pubsub = RedisPubSub(redis, "property", config=_config(size=size))
        user = f"property-{time.monotonic_ns()}"
        sent, last, after = 0, 0, FROM_START
        told = True  # from the start: what was trimmed before is nobody's loss
        for step in [*steps, "read"]:
            if step == "send":
                sent += 1
            if step in {"send", "again"} and sent:
                await pubsub.publish_user_notification(user, "e", {"n": sent}, notification_id=str(sent))
            elif step == "flush":
                await redis.delete(*[f"{{ws:{user}}}:{part}" for part in ("history", "numbering", "ids")])
            elif step == "read":
                async with pubsub.follow_user(user, after=after) as follower:
                    while (item := await follower.get(timeout=0.02)) is not None:
                        after = item.id
                        if isinstance(item, HistoryGone):
                            told = True
                            continue
                        number = item.body["data"]["n"]
                        assert number > last or told
                        assert number == last + 1 or told
                        last, told = number, False
