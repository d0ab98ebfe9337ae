"""The Redis fakes of the idempotency tests answer as a real Redis does through `RedisClient`."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient

from ..idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis

pytestmark = pytest.mark.integration


@pytest.fixture(name="redis", params=["fake", "scripted fake", "RedisClient"])
async def _redis(request: pytest.FixtureRequest) -> AsyncIterator[RedisClientProtocol]:
    if request.param == "RedisClient":
        async with RedisClient(client_id="conformance", redis_url=request.getfixturevalue("redis_url")) as client:
            yield client
    else:
        yield (FakeRedis if request.param == "fake" else ScriptedRedis)(FakeTime()).port()


async def test_only_the_first_setter_wins(redis: RedisClientProtocol, unique_name: str) -> None:
    """SET NX: one winner, whose value stays."""
    assert await redis.set_if_not_exists(unique_name, "first", ttl_seconds=60) is True
    assert await redis.set_if_not_exists(unique_name, "second", ttl_seconds=60) is False
    assert await redis.get(unique_name) == "first"


async def test_setex_overwrites(redis: RedisClientProtocol, unique_name: str) -> None:
    """Key, time to live, value; whatever stood there gives way."""
    assert await redis.setex(unique_name, 60, "one") is True
    assert await redis.setex(unique_name, 60, "två") is True
    assert await redis.get(unique_name) == "två"


async def test_deleting_counts(redis: RedisClientProtocol, unique_name: str) -> None:
    """1 for a key that existed, 0 for one that did not, and nothing is left."""
    await redis.setex(unique_name, 60, "value")
    assert [await redis.delete_key(unique_name), await redis.delete_key(unique_name)] == [1, 0]
    assert await redis.get(unique_name) is None
