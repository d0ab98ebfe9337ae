"""What `RedisClient` does beyond single commands: on a server, on a cluster, and in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError, WatchError

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.fakes import FakeQueueRedisClient, FakeRedisClient, FakeRedisServer

from .places import PLACES, client_in

pytestmark = pytest.mark.integration


@pytest.fixture(name="redis", params=PLACES)
async def _redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisClient]:
    async with client_in(request, FakeRedisClient, RedisClient) as client:
        yield client


async def test_one_of_many_wins(redis: RedisClient, unique_name: str) -> None:
    """Of fifty claims at the same time one is true, and its value stands."""
    claims = await asyncio.gather(*(redis.set_if_not_exists(unique_name, f"{number}", 60) for number in range(50)))
    assert claims.count(True) == 1
    assert await redis.get(unique_name) == str(claims.index(True))
    assert 0 < await redis.ttl(unique_name) <= 60


async def test_a_transaction_sees_no_stranger(redis: RedisClient, unique_name: str) -> None:
    """A watched key that changes stops it; queued commands run together; a lost race leaves nothing."""
    async with await redis.create_transaction_pipeline(unique_name) as pipe:
        await redis.setex(unique_name, 60, "stranger")
        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        pipe.setex(unique_name, 60, "mine")
        with pytest.raises(WatchError):
            await pipe.execute()
    async with await redis.create_transaction_pipeline(unique_name) as pipe:
        assert await pipe.get(unique_name) == "stranger"
        pipe.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        pipe.setex(unique_name, 60, "mine")
        pipe.exists(unique_name)  # type: ignore[unused-awaitable]  # queued
        assert await pipe.execute() == [True, 1]


async def test_counting_loses_no_update(redis: RedisClient, unique_name: str) -> None:
    """Ten writers that read and write in optimistic transactions count to ten."""

    async def add() -> None:
        async def work(transaction: object) -> None:
            pipe = transaction
            count = int(await pipe.get(unique_name) or 0)  # type: ignore[attr-defined]  # a Transaction
            pipe.multi()  # type: ignore[attr-defined]
            pipe.setex(unique_name, 60, count + 1)  # type: ignore[attr-defined]

        await redis.transact(work, unique_name, attempts=200)

    await asyncio.gather(*(add() for _ in range(10)))
    assert await redis.get(unique_name) == "10"


async def test_scripts(redis: RedisClient, unique_name: str) -> None:
    """A registered script runs with keys and arguments; one that nobody knows is an error; its own errors are told."""
    sha = await redis.register_script("redis.call('SET', KEYS[1], ARGV[1], 'EX', 60) return redis.call('GET', KEYS[1])")
    assert await redis.execute_script(sha, [unique_name], ["v"]) == "v"
    with pytest.raises(NoScriptError):
        await redis.execute_script("0" * 40, [unique_name], [])
    broken = await redis.register_script("return redis.call('LPUSH', KEYS[1], 'x')")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await redis.execute_script(broken, [unique_name], [])


async def test_waiting_for_an_item(redis: RedisClient, unique_name: str) -> None:
    """A waiting caller gets what comes, and None when the time is up."""
    waiting = asyncio.create_task(redis.blpop([unique_name], 20))
    await asyncio.sleep(0.05)
    await redis.rpush(unique_name, "item")
    assert await waiting == (unique_name, "item")
    assert await redis.blpop([unique_name], 0.1) is None


async def test_notifications(redis: RedisClient) -> None:
    """A user's notification arrives as JSON with exactly two keys; other users' do not."""
    user, essay = f"user-{uuid4().hex}", uuid4()
    async with redis.subscribe(redis.get_user_channel(user)) as pubsub:
        await redis.publish_user_notification(f"other-{user}", "essay_done", {})
        await redis.publish_user_notification(user, "essay_done", {"essay": essay})
        async with asyncio.timeout(20):
            while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)) is None:
                pass
    assert json.loads(message["data"]) == {"event": "essay_done", "data": {"essay": str(essay)}}


async def test_it_can_be_started_again(redis: RedisClient, unique_name: str) -> None:
    """Stopped, commands are refused; started again, the data are there."""
    await redis.setex(unique_name, 60, "v")
    await redis.stop()
    with pytest.raises(RuntimeError, match="is not running"):
        await redis.delete_key(unique_name)
    await redis.start()
    assert await redis.delete_key(unique_name) == 1


# --- of the fake alone


async def test_fakes_share_a_server() -> None:
    """Clients of one server in memory see each other's keys; others do not."""
    server = FakeRedisServer()
    async with (
        FakeRedisClient(server=server) as one,
        FakeQueueRedisClient(server=server) as two,
        FakeRedisClient() as other,
    ):
        await one.setex("k", 60, "v")
        assert [await two.exists("k"), await other.exists("k")] == [True, 0]


async def test_a_fake_can_go_away() -> None:
    """For tests of what a service does without Redis: commands raise, `ping` is False, and the data stay."""
    async with FakeRedisClient() as redis:
        await redis.setex("k", 60, "v")
        redis.server.go_away()
        with pytest.raises(RedisConnectionError):
            await redis.get("k")
        assert await redis.ping() is False
        redis.server.come_back()
        assert await redis.get("k") == "v"
