"""Optimistic transactions and Lua scripts."""

# mypy: disable-error-code="unused-awaitable,no-untyped-call"

import asyncio
import gc

import pytest
from redis.exceptions import NoScriptError, WatchError

from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig

pytestmark = pytest.mark.integration


async def test_commands_run_together(client: RedisClient, redis_prefix: str) -> None:
    """Without watched keys `multi` is legal, commands queue unawaited, and execute returns all replies."""
    pipe = await client.create_transaction_pipeline()
    pipe.multi()
    pipe.setex(f"{redis_prefix}a", 60, "1")
    pipe.sadd(f"{redis_prefix}s", "x", "y")
    pipe.scard(f"{redis_prefix}s")
    pipe.hset(f"{redis_prefix}h", "f", "v")
    pipe.hget(f"{redis_prefix}h", "f")
    pipe.rpush(f"{redis_prefix}l", "1")
    pipe.exists(f"{redis_prefix}a")
    assert await pipe.execute() == [True, 2, 2, 1, "v", 1, 1]


async def test_a_changed_watched_key_loses_the_race(client: RedisClient, redis_prefix: str) -> None:
    """When somebody writes a watched key first, nothing is executed and WatchError is raised."""
    key = f"{redis_prefix}k"
    pipe = await client.create_transaction_pipeline(key)
    await client.setex(key, 60, "theirs")
    pipe.multi()
    pipe.setex(key, 60, "ours")
    with pytest.raises(WatchError):
        await pipe.execute()
    assert await client.get(key) == "theirs"


async def test_an_untouched_watched_key_wins(client: RedisClient, redis_prefix: str) -> None:
    """A watched key that nobody changed lets the transaction through; reads before `multi` are immediate."""
    key = f"{redis_prefix}k"
    await client.setex(key, 60, "1")
    async with await client.create_transaction_pipeline(key) as pipe:
        assert await pipe.get(key) == "1"
        pipe.multi()
        pipe.setex(key, 60, "2")
        assert await pipe.execute() == [True]
    assert await client.get(key) == "2"


async def test_forgotten_pipelines_give_their_connection_back(redis_url: str, redis_prefix: str) -> None:
    """Pipelines dropped while watching, or after an error, exhaust no pool."""
    config = RedisClientConfig(max_connections=2, pool_wait_s=5)
    async with RedisClient(client_id="leaky", redis_url=redis_url, config=config) as client:
        for _ in range(6):
            pipe = await client.create_transaction_pipeline(f"{redis_prefix}k")
            assert pipe.connection is not None
            del pipe
            gc.collect()
            await asyncio.sleep(0)
        async with await client.create_transaction_pipeline(f"{redis_prefix}k") as last:
            assert last.connection is not None


async def test_many_concurrent_transactions_queue(redis_url: str, redis_prefix: str) -> None:
    """More transactions than connections wait for each other, though each also runs plain commands."""
    config = RedisClientConfig(max_connections=4)
    async with RedisClient(client_id="crowd", redis_url=redis_url, config=config) as client:

        async def transact(number: int) -> None:
            key = f"{redis_prefix}{number}"
            async with await client.create_transaction_pipeline(key) as pipe:
                assert await client.get(key) is None
                pipe.multi()
                pipe.setex(key, 60, "v")
                await pipe.execute()

        await asyncio.gather(*(transact(number) for number in range(200)))


async def test_scripts_run(client: RedisClient, redis_prefix: str) -> None:
    """A registered script gets its keys and arguments."""
    sha = await client.register_script(
        "redis.call('SET', KEYS[1], ARGV[1], 'EX', 60) return redis.call('GET', KEYS[1])"
    )
    assert len(sha) == 40
    assert await client.execute_script(sha, [f"{redis_prefix}k"], ["värde"]) == "värde"


async def test_a_lost_script_is_loaded_again(client: RedisClient) -> None:
    """After the server forgot its scripts, a script that this client registered still runs."""
    sha = await client.register_script("return tonumber(ARGV[1]) + 1")
    await client.client.script_flush()
    assert await client.execute_script(sha, [], [41]) == 42


async def test_an_unknown_script_is_an_error(client: RedisClient) -> None:
    """A script that nobody registered here cannot be loaded again."""
    with pytest.raises(NoScriptError):
        await client.execute_script("f" * 40, [], [])
