"""What a queue in Redis promises to llm_provider_service: on a server, on a cluster, and in memory."""

from collections.abc import AsyncIterator

import pytest
from redis.exceptions import RedisError, ResponseError

from huleedu_service_libs.queue_models import QueueItem
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.testing.fakes import FakeQueueRedisClient

from .places import PLACES, client_in

pytestmark = pytest.mark.integration


@pytest.fixture(name="queue", params=PLACES)
async def _queue(request: pytest.FixtureRequest) -> AsyncIterator[QueueRedisClient]:
    async with client_in(request, FakeQueueRedisClient, QueueRedisClient) as client:
        yield client


async def test_a_queue_gives_the_lowest_scores_first(queue: QueueRedisClient, redis_prefix: str) -> None:
    """Whatever order they came in, ids leave by score, with it when it is asked for."""
    key = f"{redis_prefix}q"
    assert await queue.zadd(key, {"late": 30.5, "early": 1, "middle": 7}) == 3
    assert await queue.zadd(key, {"late": 31.5}) == 0
    assert await queue.zcard(key) == 3
    assert await queue.get_queue_items(key, 2) == ["early", "middle"]
    assert await queue.get_queue_items_with_priorities(key, 9) == [
        QueueItem.from_redis_tuple(pair) for pair in (("early", 1), ("middle", 7), ("late", 31.5))
    ]


async def test_equal_scores_leave_by_name(queue: QueueRedisClient, redis_prefix: str) -> None:
    """Redis orders members of one score by their bytes, so that readers agree on who is next."""
    await queue.zadd(f"{redis_prefix}q", {"b": 1, "a": 1, "å": 1})
    assert await queue.get_queue_items(f"{redis_prefix}q", 3) == ["a", "b", "å"]


async def test_asking_for_nothing_gives_nothing(queue: QueueRedisClient, redis_prefix: str) -> None:
    """0 items are no items, not all of them; a negative count is refused with its value."""
    await queue.zadd(f"{redis_prefix}q", {"a": 1})
    assert await queue.get_queue_items(f"{redis_prefix}q", 0) == []
    assert await queue.get_queue_items_with_priorities(f"{redis_prefix}q", 0) == []
    with pytest.raises(ValueError, match="got -1"):
        await queue.get_queue_items(f"{redis_prefix}q", -1)


async def test_a_slice_by_rank(queue: QueueRedisClient, redis_prefix: str) -> None:
    """Both ends are included, negative ranks count from the end, an absent key is empty."""
    key = f"{redis_prefix}q"
    assert await queue.zrange(key, 0, -1) == []
    await queue.zadd(key, {"a": 1, "b": 2, "c": 2.5})
    assert await queue.zrange(key, 0, 1) == ["a", "b"]
    assert await queue.zrange(key, -1, -1, withscores=True) == [("c", 2.5)]
    assert await queue.zrem(key, "a", "absent") == 1
    assert await queue.zrange(key, 0, -1, withscores=False) == ["b", "c"]


async def test_hashes(queue: QueueRedisClient, redis_prefix: str) -> None:
    """New or updated, in the order asked, None for what is absent, and text of any language."""
    key = f"{redis_prefix}h"
    assert [await queue.hset(key, "f", "ä"), await queue.hset(key, "f", "ö")] == [1, 0]
    await queue.hset(key, "g", "2")
    assert await queue.hget(key, "f") == "ö"
    assert await queue.hget(key, "absent") is None
    assert await queue.hmget(key, "g", "absent", "f") == ["2", None, "ö"]
    assert await queue.hmget(key) == []
    assert [await queue.hexists(key, "f"), await queue.hexists(key, "x")] == [True, False]
    assert sorted(await queue.hkeys(key)) == ["f", "g"]
    assert await queue.hgetall(key) == {"f": "ö", "g": "2"}
    assert await queue.hdel(key, "f", "g", "x") == 2
    assert await queue.hgetall(key) == {}


async def test_keys(queue: QueueRedisClient, redis_prefix: str) -> None:
    """`exists` is a bool here, `delete` counts, `setex` overwrites."""
    key = f"{redis_prefix}k"
    assert await queue.exists(key) is False
    assert await queue.setex(key, 60, "v") is True
    assert await queue.exists(key) is True
    assert [await queue.delete(key), await queue.delete(key)] == [1, 0]


async def test_a_pipeline_runs_as_one(queue: QueueRedisClient, redis_prefix: str) -> None:
    """Nothing is sent before `execute`; then every command has its reply, in order; it is empty again."""
    key, other, third = (f"{redis_prefix}{{item}}:{name}" for name in "qhk")
    pipe = queue.pipeline().zadd(key, {"a": 1, "b": 2}).hset(other, "a", "payload").setex(third, 60, "v")
    assert await queue.exists(key) is False
    assert await pipe.execute() == [2, 1, True]
    assert await pipe.zrem(key, "a").hdel(other, "a").delete(third).execute() == [1, 1, 1]
    assert await pipe.execute() == []


async def test_a_failed_command_of_a_pipeline_is_raised(queue: QueueRedisClient, redis_prefix: str) -> None:
    """As Redis transactions are: the wrong command raises, the right ones have run."""
    key, other = f"{redis_prefix}{{x}}:text", f"{redis_prefix}{{x}}:hash"
    await queue.setex(key, 60, "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await queue.pipeline().zadd(key, {"a": 1}).hset(other, "f", "v").execute()
    assert await queue.hget(other, "f") == "v"


async def test_a_command_on_the_wrong_kind_of_key_is_raised(queue: QueueRedisClient, redis_prefix: str) -> None:
    """Errors of the driver reach the caller, and the next command works."""
    await queue.setex(f"{redis_prefix}k", 60, "v")
    with pytest.raises(RedisError, match="WRONGTYPE"):
        await queue.zcard(f"{redis_prefix}k")
    assert await queue.ping() is True
