"""What `RedisSetOperations` promises to result_aggregator_service."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_set_operations import RedisSetOperations
from huleedu_service_libs.testing.fakes import FakeRedisClient

from .places import client_in

pytestmark = pytest.mark.integration


@pytest.fixture(name="sets", params=["fake", "server"])
async def _sets(request: pytest.FixtureRequest) -> AsyncIterator[RedisSetOperations]:
    async with client_in(request, FakeRedisClient, RedisClient) as client:
        yield RedisSetOperations(client.client, "sets")


async def test_sets_count_what_changed(sets: RedisSetOperations, redis_prefix: str) -> None:
    """Adding counts the new, removing the removed; an absent set is empty."""
    key = f"{redis_prefix}s"
    assert await sets.smembers(key) == set()
    assert [await sets.sadd(key, "a", "å"), await sets.sadd(key, "a")] == [2, 0]
    assert await sets.smembers(key) == {"a", "å"}
    assert await sets.srem(key, "a", "x") == 1


async def test_a_pipeline_runs_when_it_is_executed(sets: RedisSetOperations, redis_prefix: str) -> None:
    """Awaited commands are queued, `execute` runs them as one, and the end of the block runs nothing."""
    key = f"{redis_prefix}s"
    async with sets.pipeline() as pipe:
        await pipe.sadd(key, "a", "b")
        await pipe.expire(key, 60)
        assert await sets.smembers(key) == set()
        assert await pipe.execute() == [2, True]
    async with sets.pipeline() as pipe:
        await pipe.delete(key)
    assert await sets.smembers(key) == {"a", "b"}
