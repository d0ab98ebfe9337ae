"""Commands of many tasks over one connection, against a real server, whole and broken."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import DataError, ResponseError

from huleedu_service_libs.redis_client import (
    PipeliningConfig,
    RedisClient,
    RedisClientConfig,
    RedisOverloadedError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

from .witness import watched_by

pytestmark = pytest.mark.integration


# --- together


async def test_commands_of_the_same_turn_share_a_round_trip(client: RedisClient, redis_prefix: str) -> None:
    """A hundred tasks that ask at once make two writes: the first was alone, the others go together."""
    witness = watched_by(client)
    assert await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(100))) == [None] * 100
    assert witness.batches == [1, 99]
    await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(100)))
    assert witness.batches[2:] == [100]


async def test_all_commands_use_one_connection(raw: Redis, redis_url: str, redis_prefix: str) -> None:
    """Two thousand commands at once queue over a single connection, and none fails."""
    before = len(await raw.client_list())
    async with RedisClient(client_id="many", redis_url=redis_url) as client:
        kept = await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(2_000)))
        assert kept == [True] * 2_000
        replies = await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(2_000)))
        assert replies == [str(n) for n in range(2_000)]
        assert len(await raw.client_list()) == before + 1


async def test_each_task_keeps_its_order(client: RedisClient, redis_prefix: str) -> None:
    """What one task pushes one after the other stands in that order, whatever other tasks do."""

    async def push(task: int) -> None:
        for number in range(20):
            await client.rpush(f"{redis_prefix}{task}", str(number))

    await asyncio.gather(*(push(task) for task in range(50)))
    for task in range(50):
        assert await client.lrange(f"{redis_prefix}{task}", 0, -1) == [str(number) for number in range(20)]


async def test_a_failing_command_fails_only_its_caller(client: RedisClient, raw: Redis, redis_prefix: str) -> None:
    """An error, an argument that cannot be sent, and an answer that is no text, each in the middle of a batch."""
    async with Redis.from_url(client.redis_url) as binary:
        await binary.set(f"{redis_prefix}binary", b"\xff\xfe", ex=60)
    await client.setex(f"{redis_prefix}text", 60, "v")
    nothing: Any = None
    calls = [
        client.get(f"{redis_prefix}text"),
        client.rpush(f"{redis_prefix}text", "x"),
        client.get(f"{redis_prefix}binary"),
        client.setex(f"{redis_prefix}text", 60, nothing),
        client.get(f"{redis_prefix}text"),
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [str, ResponseError, UnicodeDecodeError, DataError, str]
    assert "SET takes str, bytes, int and float, not NoneType" in str(outcomes[3])
    assert await client.get(f"{redis_prefix}text") == "v"


async def test_a_cancelled_caller_harms_nobody(client: RedisClient, redis_prefix: str) -> None:
    """Half of the callers go away, before their command is sent or after; the others get their own answers."""
    await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, str(n)) for n in range(200)))
    for turns in range(4):
        tasks = [asyncio.create_task(client.get(f"{redis_prefix}{n}")) for n in range(200)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert replies[1::2] == [str(n) for n in range(1, 200, 2)]
        assert all(isinstance(reply, asyncio.CancelledError | str) for reply in replies[::2])


async def test_what_was_cancelled_in_the_queue_is_never_sent(client: RedisClient, redis_prefix: str) -> None:
    """A command whose caller has gone before its turn does not happen."""
    await asyncio.gather(client.ping(), client.ping())  # so that the next one waits for the end of the turn
    task = asyncio.create_task(client.setex(f"{redis_prefix}k", 60, "v"))
    await asyncio.sleep(0)
    task.cancel()
    assert await client.get(f"{redis_prefix}k") is None


# --- limits


async def test_batches_and_what_is_under_way_are_bounded(redis_url: str, redis_prefix: str) -> None:
    """No write carries more commands than allowed, and no more are unanswered; the rest waits and is served."""
    pipelining = PipeliningConfig(batch_commands=10, unanswered=25)
    async with RedisClient(
        client_id="small", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        await client.get("x")
        witness = watched_by(client)
        await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(300)))
        assert max(witness.batches) == 10
        assert witness.most_unanswered <= 25


async def test_large_values_leave_in_writes_of_bounded_size(redis_url: str, redis_prefix: str) -> None:
    """Ten values of 100 kB do not become one write, and all arrive."""
    pipelining = PipeliningConfig(batch_bytes=250_000)
    async with RedisClient(
        client_id="large", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        await client.get("x")
        witness = watched_by(client)
        await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, "x" * 100_000) for n in range(10)))
        assert max(witness.batches) <= 2
        assert [len(await client.get(f"{redis_prefix}{n}") or "") for n in range(10)] == [100_000] * 10


async def test_a_full_queue_refuses_and_says_why(redis_url: str, redis_prefix: str) -> None:
    """Commands beyond the bound of the queue fail at once; those within it are served."""
    pipelining = PipeliningConfig(queue_size=50)
    async with RedisClient(
        client_id="full", redis_url=redis_url, config=RedisClientConfig(pipelining=pipelining)
    ) as client:
        outcomes = await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(60)), return_exceptions=True)
        refused = [outcome for outcome in outcomes if outcome is not None]
        assert len(refused) == 9  # one left at once, fifty waited
        assert all(isinstance(each, RedisOverloadedError) for each in refused)
        assert "GET was not sent: 50 commands wait already" in str(refused[0])


async def test_a_command_that_waits_too_long_for_its_turn_is_told(proxy: FaultProxy, redis_prefix: str) -> None:
    """Behind replies that trickle, a command gives up after the wait limit and is never sent."""
    config = RedisClientConfig(pool_wait_s=0.2, pipelining=PipeliningConfig(unanswered=1))
    async with RedisClient(client_id="slow", redis_url=proxy.url, config=config) as client:
        await client.get("x")
        proxy.delay(0.15)
        outcomes = await asyncio.gather(
            *(client.setex(f"{redis_prefix}{n}", 60, "v") for n in range(6)), return_exceptions=True
        )
        proxy.heal()
        late = [outcome for outcome in outcomes if outcome is not True]
        assert late
        assert all(isinstance(each, RedisOverloadedError) for each in late)
        assert "waited 0.2 s for its turn" in str(late[0])
        assert await client.get(f"{redis_prefix}5") is None
