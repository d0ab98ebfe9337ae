"""The end of a client: what is under way when it stops, and one event loop after another."""

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.redis_client import (
    PipeliningConfig,
    RedisClient,
    RedisClientConfig,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration


async def test_stop_waits_for_what_was_issued(redis_url: str, redis_prefix: str, raw: Redis) -> None:
    """Commands that are under way when the client is stopped get their answers."""
    client = RedisClient(client_id="leaving", redis_url=redis_url)
    await client.start()
    tasks = [asyncio.create_task(client.setex(f"{redis_prefix}{n}", 60, "v")) for n in range(500)]
    await asyncio.sleep(0)
    await client.stop()
    assert await asyncio.gather(*tasks) == [True] * 500


async def test_stop_ends_an_attempt_to_connect(proxy: FaultProxy) -> None:
    """Commands that wait for a connection when the client is stopped are told, and the attempt leaves nothing."""
    config = RedisClientConfig(stop_timeout_s=0.1)
    client = RedisClient(client_id="stopped", redis_url=proxy.url, config=config)
    await client.start()
    proxy.cut()
    proxy.silence()
    await asyncio.sleep(0.05)
    task = asyncio.create_task(client.rpush("k", "v"))
    await asyncio.sleep(0.05)
    async with asyncio.timeout(10):
        await client.stop()
        with pytest.raises(RedisConnectionError):
            await task
    proxy.cut()
    proxy.heal()


async def test_another_loop_is_refused_while_the_first_is_open(client: RedisClient) -> None:
    """A client that belongs to one loop says so in another, for every command."""

    async def elsewhere() -> None:
        for call in (
            client.get("k"),
            client.scard("k"),
            client.blpop(["k"], 0.1),
            client.create_transaction_pipeline(),
        ):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await call

    await asyncio.to_thread(asyncio.run, elsewhere())


def test_a_client_outlives_its_loop(redis_url: str, redis_prefix: str) -> None:
    """When its loop is closed, the client serves the next one, with all kinds of commands."""
    client = RedisClient(client_id="moving", redis_url=redis_url)

    async def use() -> None:
        await client.start()
        assert await client.setex(f"{redis_prefix}k", 60, "v")
        assert await client.blpop([f"{redis_prefix}none"], 0.01) is None
        async with await client.create_transaction_pipeline(f"{redis_prefix}k") as pipe:
            assert await pipe.get(f"{redis_prefix}k") == "v"
        assert await client.client.get(f"{redis_prefix}k") == "v"
        await client._connections.aclose()
        line = client._executor._line
        assert line is not None
        line._transport.close()  # what a test's loop does to it when it ends
        await asyncio.sleep(0.01)

    async def end() -> None:
        await use()
        await client.stop()

    asyncio.run(use())
    asyncio.run(use())
    asyncio.run(end())


def test_a_stopped_client_is_started_in_another_loop(redis_url: str, redis_prefix: str) -> None:
    """Each loop starts it, has callers queue for commands, transactions and raw connections, and stops it."""
    config = RedisClientConfig(max_connections=2, pipelining=PipeliningConfig(unanswered=2))
    client = RedisClient(client_id="reused", redis_url=redis_url, config=config)

    async def read(number: int) -> str | None:
        async with client.watch(f"{redis_prefix}{number}") as transaction:
            await client.client.get(f"{redis_prefix}{number}")
            value = await transaction.get(f"{redis_prefix}{number}")
            return None if value is None else str(value)

    async def use() -> None:
        async with client:
            await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(30)))
            assert await asyncio.gather(*(read(n) for n in range(30))) == [str(n) for n in range(30)]

    for _ in range(3):
        asyncio.run(use())
