"""What is never done behind a caller's back: after a stop, after a late command, beside a line that is retiring."""

import asyncio
import enum
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from redis.asyncio import Redis

from huleedu_service_libs._redis_executor import commands
from huleedu_service_libs.redis_client import (
    RedisClient,
    RedisClientConfig,
    ReplyLateError,
    ReplyLostError,
    Transaction,
    TransactionConflictError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("command", ["get", "claim", "script", "scan_pattern", "rpush"])
async def test_a_stopped_client_connects_no_more(command: str, proxy: FaultProxy, redis_prefix: str) -> None:
    """What stop() gives up when its time-out has passed is told so and stays given up: nothing is repeated or looked up."""
    config = RedisClientConfig(stop_timeout_s=0.1)
    client = RedisClient(client_id="stopped", redis_url=proxy.url, config=config)
    await client.start()
    sha = await client.register_script("return 1")
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "get": lambda: client.get("k"),
        "claim": lambda: client.set_if_not_exists(f"{redis_prefix}k", "v", 60),
        "script": lambda: client.execute_script(sha, [], []),
        "scan_pattern": lambda: client.scan_pattern("*"),
        "rpush": lambda: client.rpush(f"{redis_prefix}l", "v"),
    }
    proxy.silence()
    task = asyncio.create_task(calls[command]())
    await asyncio.sleep(0.05)
    before = proxy.connections
    async with asyncio.timeout(10):
        await client.stop()
        with pytest.raises(ReplyLostError, match="the client was stopped"):
            await task
    proxy.cut()
    proxy.heal()
    await asyncio.sleep(0.2)
    assert not client._started
    assert client._executor._line is None
    assert proxy.connections == before


class _Kind(str, enum.Enum):  # the older form, whose str() is not its value
    CLAIM = "claim"


@pytest.mark.parametrize("value", [b"claim", _Kind.CLAIM, 7, 0.1], ids=["bytes", "member", "int", "float"])
async def test_a_claim_knows_its_value_whatever_its_type(
    value: object, proxy: FaultProxy, redis_url: str, redis_prefix: str
) -> None:
    """A won claim whose reply got lost is won also with a value that is no plain text."""
    async with RedisClient(client_id="claiming", redis_url=proxy.url) as client:
        proxy.lose_replies(to=b"\r\nNX\r\n")
        assert await client.set_if_not_exists(f"{redis_prefix}k", value, 60)  # type: ignore[arg-type]
    assert proxy.lost_replies == 1


@pytest.mark.parametrize("late", ["mine", "theirs"])
async def test_a_claim_that_arrives_late_is_recognised(
    late: str, client: RedisClient, redis_url: str, redis_prefix: str
) -> None:
    """A claim that was held up on the way and runs after the client has looked is the caller's own, not another's."""
    key, submit, claims = f"{redis_prefix}k", client._executor.submit, 0
    async with Redis.from_url(redis_url, decode_responses=True) as network:

        async def send(command: commands.Command, *args: Any) -> Any:
            nonlocal claims
            if command is commands.CLAIM:
                claims += 1
                if claims == 1:
                    raise ReplyLateError("SET NX", 1.0)
                await network.set(key, late, nx=True, ex=60)
            return await submit(command, *args)

        client._executor.submit = lambda *args: asyncio.ensure_future(send(*args))  # type: ignore[method-assign]
        assert await client.set_if_not_exists(key, "mine", 60) is (late == "mine")
        assert await network.get(key) == late
    assert claims == 2


async def test_a_retiring_line_that_breaks_opens_no_third(proxy: FaultProxy) -> None:
    """What was under way on a line that is being replaced goes over the one that replaces it."""
    async with RedisClient(client_id="replacing", redis_url=proxy.url) as client:
        first = client._executor._line
        assert first is not None
        proxy.silence()
        under_way = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0.05)
        (old,) = proxy._links
        first.retire()  # as after a READONLY answer
        following = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0.05)
        old.tasks[0].cancel()  # its request stays where it is
        proxy.heal()
        assert await following is None
        second = client._executor._line
        assert second is not first
        old.cut()
        await asyncio.wait({under_way}, timeout=10)
        assert client._executor._line is second
        assert proxy.connections == 2
        await client.get("k")
        assert proxy.open_connections == 1


async def test_a_cancelled_read_ends_the_watch(client: RedisClient, redis_prefix: str) -> None:
    """A read that a time limit cancels closes the connection and with it the watch: the race counts as lost."""
    key = f"{redis_prefix}k"
    async with client.watch(key) as transaction:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await transaction.execute_command("BLPOP", f"{redis_prefix}none", 0)
        await client.setex(key, 60, "another's")
        transaction.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
        transaction.set(key, "mine")  # type: ignore[unused-awaitable]  # queued
        with pytest.raises(TransactionConflictError):
            await transaction.exec()
    assert await client.get(key) == "another's"


async def test_a_stopped_client_tries_no_transaction_again(redis_url: str, redis_prefix: str) -> None:
    """A transaction that stop() interrupts runs neither on a new connection without its watch, nor again."""
    key = f"{redis_prefix}k"
    async with Redis.from_url(redis_url, decode_responses=True) as other:
        client = RedisClient(client_id="stopped", redis_url=redis_url)
        await client.start()

        async def work(transaction: Transaction) -> None:
            await client.stop()
            await other.set(key, "another's", ex=60)
            transaction.multi()  # type: ignore[no-untyped-call]  # the driver has no hint there
            transaction.set(key, "mine")  # type: ignore[unused-awaitable]  # queued

        with pytest.raises(RuntimeError, match="is not running"):
            await client.transact(work, key)
        assert await other.get(key) == "another's"


async def test_publish_and_subscribe_belong_to_the_loop_of_the_client(client: RedisClient, redis_prefix: str) -> None:
    """Another loop is refused there as well, before a connection is used from two loops."""

    async def elsewhere() -> None:
        for call in (client.publish(f"{redis_prefix}c", "m"), client.publish_user_notification("u", "e", {})):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await call
        for enter in (client.subscribe, client.follow_user):
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                enter("c")

    await asyncio.to_thread(asyncio.run, elsewhere())
    assert await client.publish(f"{redis_prefix}c", "m") == 0
