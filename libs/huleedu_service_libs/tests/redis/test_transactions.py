"""Optimistic transactions and Lua scripts."""

# mypy: disable-error-code="unused-awaitable,no-untyped-call"

import asyncio
import gc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import NoScriptError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from huleedu_service_libs.redis_client import (
    RedisClient,
    RedisClientConfig,
    ReplyLostError,
    ScriptAnswerError,
    Transaction,
    TransactionConflictError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import RedisServer

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


async def test_a_typed_script_is_loaded_when_it_is_called(client: RedisClient, redis_prefix: str) -> None:
    """It needs no registration, survives that the server forgets it, and answers with its type."""
    add = client.script("return redis.call('INCRBY', KEYS[1], ARGV[1])", returns=int)
    assert await add([f"{redis_prefix}n"], [5]) == 5
    await client.client.script_flush()
    assert await add([f"{redis_prefix}n"], [5]) == 10


async def test_an_answer_of_another_type_is_told(client: RedisClient) -> None:
    """A script that answers nil where text was promised says so, with Lua's traps named."""
    with pytest.raises(ScriptAnswerError, match="answered NoneType, not str"):
        await client.script("return false", returns=str)()


async def test_scripts_survive_a_restart(client: RedisClient, redis_server: RedisServer, redis_prefix: str) -> None:
    """A server that was restarted knows no scripts; registered and typed ones run all the same."""
    sha = await client.register_script("return ARGV[1]")
    typed = client.script("return KEYS[1]", returns=str)
    assert await typed([f"{redis_prefix}k"]) == f"{redis_prefix}k"
    try:
        await asyncio.to_thread(redis_server.stop)
    except NotOursError as error:
        pytest.skip(str(error))
    await asyncio.to_thread(redis_server.start)
    assert await client.execute_script(sha, [], ["x"]) == "x"
    assert await typed([f"{redis_prefix}k"]) == f"{redis_prefix}k"


# --- watch, multi, exec


async def test_watch_multi_exec(client: RedisClient, redis_prefix: str) -> None:
    """The three names of the architecture rule: read at once, queue, run as one; under both forms of exec."""
    key = f"{redis_prefix}k"
    async with client.watch(key) as transaction:
        assert await transaction.get(key) is None
        transaction.multi()
        transaction.setex(key, 60, "1")
        transaction.get(key)
        assert await transaction.exec() == [True, "1"]
    async with client.multi() as transaction:
        transaction.get(key)
        assert await client.exec(transaction) == ["1"]


async def test_further_keys_can_be_watched(client: RedisClient, redis_prefix: str) -> None:
    """A key that was watched later counts as well, and the error names all of them."""
    async with client.watch(f"{redis_prefix}a") as transaction:
        await transaction.watch(f"{redis_prefix}b")
        await client.setex(f"{redis_prefix}b", 60, "theirs")
        transaction.multi()
        transaction.setex(f"{redis_prefix}a", 60, "ours")
        with pytest.raises(TransactionConflictError, match=f"{redis_prefix}a, {redis_prefix}b") as caught:
            await transaction.exec()
    assert isinstance(caught.value, WatchError)
    assert await client.get(f"{redis_prefix}a") is None


@pytest.mark.parametrize("how", ["error", "cancelled", "not executed"])
async def test_the_connection_comes_back_however_the_block_ends(redis_url: str, redis_prefix: str, how: str) -> None:
    """With a single connection for transactions, the next one gets it, and it watches nothing any more."""
    config = RedisClientConfig(max_connections=1, pool_wait_s=5)
    async with RedisClient(client_id="single", redis_url=redis_url, config=config) as client:

        async def use() -> None:
            async with client.watch(f"{redis_prefix}k") as transaction:
                transaction.multi()
                transaction.setex(f"{redis_prefix}k", 60, "v")
                if how == "error":
                    raise LookupError
                if how == "cancelled":
                    await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await asyncio.wait({task}, timeout=0.2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.setex(f"{redis_prefix}k", 60, "theirs")
        async with client.multi() as transaction:
            transaction.get(f"{redis_prefix}k")
            assert await transaction.exec() == ["theirs"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writers=st.integers(2, 8),
    steps=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=8),
)
def test_no_update_is_lost(redis_url: str, writers: int, steps: list[tuple[int, int, int]]) -> None:
    """Writers that move amounts between three accounts at the same time: each account is what all moves make of it."""

    async def scenario() -> None:
        async with RedisClient(client_id="bank", redis_url=redis_url) as client:
            keys = [f"test-bank:{writers}:{len(steps)}:{n}" for n in range(3)]
            await client.delete(*keys)

            async def move(source: str, target: str, amount: int) -> None:
                async def work(transaction: Transaction) -> None:
                    have = int(await transaction.get(source) or 0), int(await transaction.get(target) or 0)
                    transaction.multi()
                    transaction.setex(source, 60, have[0] - amount)
                    transaction.setex(target, 60, (have[1] if target != source else have[0] - amount) + amount)

                await client.transact(work, source, target, attempts=200)

            async def write() -> None:
                for source, target, amount in steps:
                    await move(keys[source], keys[target], amount)

            await asyncio.gather(*(write() for _ in range(writers)))
            for number, key in enumerate(keys):
                gained = sum(amount for _, target, amount in steps if target == number)
                spent = sum(amount for source, _, amount in steps if source == number)
                assert int(await client.get(key) or 0) == writers * (gained - spent)
            await client.delete(*keys)

    asyncio.run(scenario())


async def test_retrying_has_a_bound(client: RedisClient, redis_prefix: str) -> None:
    """Somebody who always writes in between wins in the end, and the error says how often it was tried."""
    key = f"{redis_prefix}k"
    calls = 0

    async def work(transaction: Transaction) -> None:
        nonlocal calls
        calls += 1
        await client.setex(key, 60, "theirs")
        transaction.multi()
        transaction.setex(key, 60, "ours")

    with pytest.raises(TransactionConflictError, match="in each of 3 attempts") as caught:
        await client.transact(work, key, attempts=3)
    assert (calls, caught.value.attempts) == (3, 3)
    assert await client.get(key) == "theirs"


@pytest.mark.parametrize("form", ["transact", "pipeline"])
async def test_a_transaction_whose_reply_got_lost_is_not_run_again(
    client: RedisClient, redis_url: str, redis_prefix: str, form: str
) -> None:
    """It may have run: that is no lost race, and whoever took it for one would count twice."""
    key = f"{redis_prefix}n"

    async def work(transaction: Transaction) -> None:
        transaction.multi()
        transaction.incr(key)

    async def by_hand(far: RedisClient) -> list[Any]:
        pipe = await far.create_transaction_pipeline(key)
        pipe.multi()
        pipe.incr(key)
        return await pipe.execute()

    async with (
        FaultProxy(redis_url) as proxy,
        RedisClient(client_id="far", redis_url=proxy.url) as far,
    ):
        proxy.lose_replies(to=b"\r\nEXEC\r\n")
        running = far.transact(work, key) if form == "transact" else by_hand(far)
        with pytest.raises(ReplyLostError, match="EXEC, which may have run or not"):
            await running
    assert await client.get(key) == "1"


async def test_a_silent_server_ends_a_transaction_in_time(redis_url: str, redis_prefix: str) -> None:
    """Each wait of a transaction is bounded by the socket time-out."""
    config = RedisClientConfig(socket_timeout_s=0.2)
    async with (
        FaultProxy(redis_url) as proxy,
        RedisClient(client_id="far", redis_url=proxy.url, config=config) as far,
    ):
        proxy.silence()
        async with asyncio.timeout(20):
            with pytest.raises(RedisTimeoutError):
                await far.create_transaction_pipeline(f"{redis_prefix}k")
        proxy.heal()
