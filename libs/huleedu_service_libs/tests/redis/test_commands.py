"""Every command of the client, against a real server and the one in memory."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.fakes import FakeRedisClient

from ..conformance.places import client_in

pytestmark = pytest.mark.integration


@pytest.fixture(name="client", params=["fake", "server"])
async def _client(request: pytest.FixtureRequest) -> AsyncIterator[RedisClient]:
    """A started client; this suite says what every Redis behind it does."""
    async with client_in(request, FakeRedisClient, RedisClient) as client:
        yield client


async def test_only_the_first_setter_wins(client: RedisClient, redis_prefix: str) -> None:
    """`set_if_not_exists` is true once, and its time to live is set with it."""
    key = f"{redis_prefix}claim"
    assert await client.set_if_not_exists(key, "a", ttl_seconds=60) is True
    assert await client.set_if_not_exists(key, "b") is False
    assert await client.get(key) == "a"
    assert 0 < await client.ttl(key) <= 60


async def test_a_claim_without_ttl_stays(client: RedisClient, redis_prefix: str) -> None:
    """Without a time to live the key has no expiry."""
    await client.set_if_not_exists(f"{redis_prefix}k", "v")
    assert await client.ttl(f"{redis_prefix}k") == -1


async def test_strings(client: RedisClient, redis_prefix: str) -> None:
    """Values come back as text, Swedish included; absent keys as None, 0 and -2."""
    key = f"{redis_prefix}text"
    assert await client.get(key) is None
    assert await client.setex(key, 60, "Åsa skrev en uppsats") is True
    assert await client.get(key) == "Åsa skrev en uppsats"
    assert await client.exists(key) == 1
    assert await client.expire(key, 5) is True
    assert await client.delete_key(key) == 1
    assert await client.delete_key(key) == 0
    assert await client.exists(key) == 0
    assert await client.expire(key, 5) is False
    assert await client.ttl(key) == -2


async def test_delete_several(client: RedisClient, redis_prefix: str) -> None:
    """`delete` counts what it deleted, and needs no key."""
    await client.setex(f"{redis_prefix}1", 60, "a")
    await client.setex(f"{redis_prefix}2", 60, "b")
    assert await client.delete(f"{redis_prefix}1", f"{redis_prefix}2", f"{redis_prefix}3") == 2
    assert await client.delete() == 0


async def test_sets(client: RedisClient, redis_prefix: str) -> None:
    """Set commands count, and an absent set is empty."""
    key = f"{redis_prefix}set"
    assert await client.smembers(key) == set()
    assert await client.spop(key) is None
    assert await client.sadd(key, "a", "b", "å") == 3
    assert await client.sadd(key, "a") == 0
    assert await client.scard(key) == 3
    assert await client.smembers(key) == {"a", "b", "å"}
    assert await client.srem(key, "a", "x") == 1
    assert await client.spop(key) in {"b", "å"}
    assert await client.scard(key) == 1


async def test_sorted_sets(client: RedisClient, redis_prefix: str) -> None:
    """Sorted-set commands count what was new and what went."""
    key = f"{redis_prefix}z"
    assert await client.zadd(key, {"a": 1.5, "b": 2}) == 2
    assert await client.zadd(key, {"a": 3.0}) == 0
    assert await client.zrem(key, "a", "x") == 1


async def test_hashes(client: RedisClient, redis_prefix: str) -> None:
    """Hash commands say new or updated, and an absent hash is empty."""
    key = f"{redis_prefix}h"
    assert await client.hgetall(key) == {}
    assert await client.hget(key, "f") is None
    assert await client.hset(key, "f", "ä") == 1
    assert await client.hset(key, "f", "ö") == 0
    assert await client.hget(key, "f") == "ö"
    assert await client.hexists(key, "f") is True
    assert await client.hexists(key, "g") is False
    assert await client.hlen(key) == 1
    assert await client.hgetall(key) == {"f": "ö"}


async def test_lists(client: RedisClient, redis_prefix: str) -> None:
    """List commands return lengths; a slice includes both ends."""
    key = f"{redis_prefix}l"
    assert await client.lrange(key, 0, -1) == []
    assert await client.rpush(key, "b", "c") == 2
    assert await client.lpush(key, "a") == 3
    assert await client.llen(key) == 3
    assert await client.lrange(key, 0, 1) == ["a", "b"]


async def test_scan_finds_each_key_once(client: RedisClient, redis_prefix: str) -> None:
    """Many pages of SCAN give every matching key, none twice."""
    expected = {f"{redis_prefix}scan:{n}" for n in range(500)}
    pipe = client.client.pipeline(transaction=False)
    for key in expected:
        pipe.set(key, "x", ex=60)  # type: ignore[unused-awaitable]  # queued
    await pipe.execute()
    found = await client.scan_pattern(f"{redis_prefix}scan:*")
    assert len(found) == len(set(found))
    assert set(found) == expected


async def test_ping(client: RedisClient) -> None:
    """A server that answers gives True."""
    assert await client.ping() is True


async def test_the_raw_client_is_at_hand(client: RedisClient, redis_prefix: str) -> None:
    """`client.client` is the driver's own client and decodes, too."""
    await client.client.set(f"{redis_prefix}raw", "x", ex=60)
    assert await client.client.get(f"{redis_prefix}raw") == "x"
