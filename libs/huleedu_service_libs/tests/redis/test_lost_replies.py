"""Commands whose reply is lost: what is repeated, what runs once, and what its caller is told."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.redis_client import (
    RedisClient,
    ReplyLateError,
    ReplyLostError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

from .witness import watched_by

pytestmark = pytest.mark.integration


REPEATED: list[tuple[bytes, str, tuple[Any, ...], Any]] = [
    (b"\r\nGET\r\n", "get", ("{p}text",), "v"),
    (b"\r\nSET\r\n", "setex", ("{p}new", 60, "v"), True),
    (b"\r\nSCAN\r\n", "scan_pattern", ("{p}tex*",), ["{p}text"]),
    (b"\r\nEXPIRE\r\n", "expire", ("{p}text", 60), True),
    (b"\r\nTTL\r\n", "ttl", ("{p}none",), -2),
    (b"\r\nEXISTS\r\n", "exists", ("{p}text",), 1),
    (b"\r\nSCARD\r\n", "scard", ("{p}set",), 1),
    (b"\r\nSMEMBERS\r\n", "smembers", ("{p}set",), {"m"}),
    (b"\r\nHGET\r\n", "hget", ("{p}hash", "f"), "v"),
    (b"\r\nHLEN\r\n", "hlen", ("{p}hash",), 1),
    (b"\r\nHGETALL\r\n", "hgetall", ("{p}hash",), {"f": "v"}),
    (b"\r\nHEXISTS\r\n", "hexists", ("{p}hash", "f"), True),
    (b"\r\nLLEN\r\n", "llen", ("{p}list",), 1),
    (b"\r\nLRANGE\r\n", "lrange", ("{p}list", 0, -1), ["i"]),
    (b"\r\nSCRIPT\r\n", "register_script", ("return 1",), "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"),
    (b"\r\nPING\r\n", "ping", (), True),
]

ONCE: list[tuple[bytes, str, tuple[Any, ...], str, int]] = [
    (b"\r\nDEL\r\n", "delete_key", ("{p}text",), "exists {p}text", 0),
    (b"\r\nSADD\r\n", "sadd", ("{p}set", "n"), "scard {p}set", 2),
    (b"\r\nSREM\r\n", "srem", ("{p}set", "m"), "scard {p}set", 0),
    (b"\r\nSPOP\r\n", "spop", ("{p}set",), "scard {p}set", 0),
    (b"\r\nZADD\r\n", "zadd", ("{p}z", {"n": 1.0}), "zcard {p}z", 1),
    (b"\r\nZREM\r\n", "zrem", ("{p}z", "n"), "zcard {p}z", 0),
    (b"\r\nHSET\r\n", "hset", ("{p}hash", "g", "v"), "hlen {p}hash", 2),
    (b"\r\nRPUSH\r\n", "rpush", ("{p}list", "j"), "llen {p}list", 2),
    (b"\r\nLPUSH\r\n", "lpush", ("{p}list", "j"), "llen {p}list", 2),
]


def _with_prefix(value: Any, prefix: str) -> Any:
    if isinstance(value, str):
        return value.replace("{p}", prefix)
    if isinstance(value, list | tuple):
        return type(value)(_with_prefix(each, prefix) for each in value)
    return value


async def _prepare(raw: Redis, prefix: str) -> None:
    pipe: Any = raw.pipeline(transaction=False)
    pipe.set(f"{prefix}text", "v", ex=600).sadd(f"{prefix}set", "m").hset(f"{prefix}hash", "f", "v")
    pipe.rpush(f"{prefix}list", "i")
    await pipe.execute()


@pytest.mark.parametrize(("word", "name", "arguments", "answer"), REPEATED, ids=[each[1] for each in REPEATED])
async def test_safe_commands_are_repeated_after_a_lost_reply(
    far: RedisClient,
    proxy: FaultProxy,
    raw: Redis,
    redis_prefix: str,
    word: bytes,
    name: str,
    arguments: tuple[Any, ...],
    answer: Any,
) -> None:
    """Reads, and writes that leave and say the same when they run twice, are sent again on a new connection."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=word)
    assert await getattr(far, name)(*_with_prefix(arguments, redis_prefix)) == _with_prefix(answer, redis_prefix)
    assert proxy.lost_replies == 1


@pytest.mark.parametrize(("word", "name", "arguments", "look", "left"), ONCE, ids=[each[1] for each in ONCE])
async def test_other_commands_run_once_and_say_that_nobody_knows(
    far: RedisClient,
    proxy: FaultProxy,
    raw: Redis,
    redis_prefix: str,
    word: bytes,
    name: str,
    arguments: tuple[Any, ...],
    look: str,
    left: int,
) -> None:
    """What would count twice, or answer otherwise the second time, is never repeated; the error tells why."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=word)
    with pytest.raises(ReplyLostError, match="may have run or not"):
        await getattr(far, name)(*_with_prefix(arguments, redis_prefix))
    command, key = look.split()
    assert await getattr(raw, command)(_with_prefix(key, redis_prefix)) == left


async def test_scripts_run_once(far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str) -> None:
    """A script may do anything, so it is not repeated."""
    sha = await far.register_script("return redis.call('INCR', KEYS[1])")
    proxy.lose_replies(to=b"\r\nEVALSHA\r\n")
    with pytest.raises(ReplyLostError):
        await far.execute_script(sha, [f"{redis_prefix}n"], [])
    assert await raw.get(f"{redis_prefix}n") == "1"


async def test_one_lost_batch_is_sorted_command_by_command(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """Of a hundred commands under way, the reads get answers and each push runs once, answered or not."""
    await _prepare(raw, redis_prefix)
    witness = watched_by(far)
    proxy.lose_replies(to=b"\r\nRPUSH\r\n")
    mixed = [far.get(f"{redis_prefix}text") if n % 2 else far.rpush(f"{redis_prefix}l{n}", "i") for n in range(100)]
    outcomes = await asyncio.gather(*mixed, return_exceptions=True)
    assert outcomes[1::2] == ["v"] * 50
    assert any(isinstance(outcome, ReplyLostError) for outcome in outcomes[::2])
    for number, outcome in enumerate(outcomes[::2]):
        assert outcome == 1 or isinstance(outcome, ReplyLostError)
        assert await raw.llen(f"{redis_prefix}l{2 * number}") == 1
    assert witness.connections == [True]


async def test_repeating_has_an_end(far: RedisClient, proxy: FaultProxy) -> None:
    """A read whose reply is lost again and again is sent four times, then its caller is told."""
    proxy.lose_replies(to=b"\r\nGET\r\n", times=100)
    with pytest.raises(ReplyLostError):
        await far.get("k")
    assert proxy.lost_replies == 4


async def test_repeating_survives_a_server_that_is_away_for_a_moment(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """While a read is repeated the first connections fail; it gets its answer all the same."""
    await _prepare(raw, redis_prefix)
    proxy.lose_replies(to=b"\r\nGET\r\n", hang=True)
    reading = asyncio.create_task(far.get(f"{redis_prefix}text"))
    async with asyncio.timeout(20):
        while not far._executor._line or not far._executor._line.unanswered:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    proxy.refuse()
    await asyncio.sleep(0.005)
    proxy.heal()
    assert await reading == "v"


async def test_a_silent_server_costs_the_socket_timeout_once(far: RedisClient, proxy: FaultProxy) -> None:
    """Without a byte for that long all that is under way fails, repeatable or not; the next command connects anew."""
    proxy.silence()
    outcomes = await asyncio.gather(far.get("a"), far.get("b"), far.sadd("c", "d"), return_exceptions=True)
    proxy.heal()
    assert [type(outcome) for outcome in outcomes] == [ReplyLateError] * 3
    assert "No reply to GET within 1 s" in str(outcomes[0])
    assert await far.ping()


async def test_an_idle_connection_that_was_cut_costs_no_error(far: RedisClient, proxy: FaultProxy) -> None:
    """A connection that ended while nothing was under way is replaced without a word."""
    for _ in range(3):
        proxy.cut()
        await asyncio.sleep(0.05)
        assert await far.sadd("huleedu:never", "x") in {0, 1}
    assert await far.delete_key("huleedu:never") == 1


async def test_nobody_there_is_an_error_at_once(far: RedisClient, proxy: FaultProxy) -> None:
    """Commands issued while the server cannot be reached get the driver's error, each its own."""
    proxy.refuse()
    await asyncio.sleep(0.05)
    outcomes = await asyncio.gather(*(far.get("k") for _ in range(20)), return_exceptions=True)
    assert all(isinstance(outcome, RedisConnectionError) for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 20
    proxy.heal()
    assert await far.ping()
