"""Section 3.1: what the commands of a `RedisClient` give back, on a real server; its transactions and scripts."""

import asyncio
import hashlib
from typing import Any

import pytest
from redis.asyncio.client import Pipeline
from redis.exceptions import WatchError

from huleedu_service_libs.redis_client import RedisClient

Step = tuple[str, tuple[Any, ...], Any]

COURSES: dict[str, list[Step]] = {
    "3.1-set-if-not-exists": [
        ("set_if_not_exists", ("k", "first", 60), True),
        ("set_if_not_exists", ("k", "second", 60), False),
        ("get", ("k",), "first"),
        ("ttl", ("k",), 60),
        ("set_if_not_exists", ("for-ever", "v"), True),
        ("ttl", ("for-ever",), -1),
        ("delete_key", ("for-ever",), 1),
    ],
    "3.1-strings": [
        ("get", ("k",), None),
        ("setex", ("k", 60, "value"), True),
        ("get", ("k",), "value"),
        ("ttl", ("k",), 60),
    ],
    "3.1-deletes": [
        ("delete_key", ("k",), 0),
        ("setex", ("k", 60, "v"), True),
        ("delete_key", ("k",), 1),
        ("setex", ("a", 60, "v"), True),
        ("setex", ("b", 60, "v"), True),
        ("delete", ("a", "b", "absent"), 2),
    ],
    "3.1-sets": [
        ("smembers", ("k",), set()),
        ("spop", ("k",), None),
        ("sadd", ("k", "a", "b", "c"), 3),
        ("sadd", ("k", "c", "d"), 1),
        ("scard", ("k",), 4),
        ("srem", ("k", "a", "absent"), 1),
        ("smembers", ("k",), {"b", "c", "d"}),
        ("srem", ("k", "b", "c"), 2),
        ("spop", ("k",), "d"),
        ("scard", ("k",), 0),
    ],
    "3.1-sorted-sets": [
        ("zadd", ("k", {"a": 1.5, "b": 2.0}), 2),
        ("zadd", ("k", {"a": 3.0}), 0),
        ("zrem", ("k", "a", "absent"), 1),
        ("zrem", ("k", "b"), 1),
    ],
    "3.1-hashes": [
        ("hget", ("k", "f"), None),
        ("hgetall", ("k",), {}),
        ("hlen", ("k",), 0),
        ("hexists", ("k", "f"), False),
        ("hset", ("k", "f", "v"), 1),
        ("hset", ("k", "f", "w"), 0),
        ("hset", ("k", "g", "x"), 1),
        ("hget", ("k", "f"), "w"),
        ("hlen", ("k",), 2),
        ("hgetall", ("k",), {"f": "w", "g": "x"}),
        ("hexists", ("k", "f"), True),
        ("delete_key", ("k",), 1),
    ],
    "3.1-expiry": [
        ("ttl", ("k",), -2),
        ("exists", ("k",), 0),
        ("expire", ("k", 60), False),
        ("sadd", ("k", "m"), 1),
        ("ttl", ("k",), -1),
        ("exists", ("k",), 1),
        ("expire", ("k", 60), True),
        ("ttl", ("k",), 60),
    ],
    "3.1-lists": [
        ("llen", ("k",), 0),
        ("lrange", ("k", 0, -1), []),
        ("rpush", ("k", "b", "c"), 2),
        ("lpush", ("k", "a"), 3),
        ("llen", ("k",), 3),
        ("lrange", ("k", 0, -1), ["a", "b", "c"]),
        ("lrange", ("k", 1, 1), ["b"]),
        ("delete_key", ("k",), 1),
    ],
    "3.1-text-only": [
        ("setex", ("å", 60, "räksmörgås"), True),
        ("get", ("å",), "räksmörgås"),
        ("hset", ("h", "fält", "värde"), 1),
        ("hgetall", ("h",), {"fält": "värde"}),
        ("sadd", ("s", "ö"), 1),
        ("smembers", ("s",), {"ö"}),
        ("delete", ("h", "s"), 2),
    ],
}


def _same(found: Any, wanted: Any) -> bool:
    """Equal and of the same type; a second of a time to live may have passed."""
    return type(found) is type(wanted) and found in ({wanted, wanted - 1} if wanted == 60 else [wanted])


@pytest.mark.parametrize(
    "course", [pytest.param(course, marks=pytest.mark.contract(row), id=row) for row, course in COURSES.items()]
)
async def test_a_course_of_commands(course: list[Step], client: RedisClient, redis_prefix: str) -> None:
    """Each command in turn gives exactly what is listed, of exactly that type."""
    for method, (key, *others), wanted in course:
        keys = [redis_prefix + one for one in others] if method == "delete" else others
        found = await getattr(client, method)(redis_prefix + key, *keys)
        assert _same(found, wanted), f"{method}({key}, {others}) is {found!r}, not {wanted!r}"


@pytest.mark.contract("3.1-set-if-not-exists")
async def test_one_of_many_setters_wins(client: RedisClient, redis_prefix: str) -> None:
    """Twenty at once: one is told that it was the first."""
    key = f"{redis_prefix}race"
    won = await asyncio.gather(*(client.set_if_not_exists(key, str(n), ttl_seconds=60) for n in range(20)))
    assert (won.count(True), await client.get(key)) == (1, str(won.index(True)))


@pytest.mark.contract("3.1-scan-pattern")
async def test_a_scan_finds_all(client: RedisClient, redis_prefix: str) -> None:
    """More keys than a page has, and no others."""
    raw: Any = client.client
    async with raw.pipeline(transaction=False) as pipe:
        for number in range(250):
            pipe.set(f"{redis_prefix}scan:{number}", "v", ex=60)
        pipe.set(f"{redis_prefix}other", "v", ex=60)
        await pipe.execute()
    found = await client.scan_pattern(f"{redis_prefix}scan:*")
    assert (type(found), sorted(found)) == (list, sorted(f"{redis_prefix}scan:{n}" for n in range(250)))
    assert await client.scan_pattern(f"{redis_prefix}none:*") == []


@pytest.mark.contract("3.1-blpop")
async def test_a_blocking_pop(client: RedisClient, redis_prefix: str) -> None:
    """Waiting in vain ends with None; an item that comes later is taken; the first list has precedence."""
    first, second = f"{redis_prefix}1", f"{redis_prefix}2"
    assert await client.blpop(keys=[first, second], timeout=0.1) is None
    waiting = asyncio.create_task(client.blpop([first, second], timeout=30))
    await asyncio.sleep(0.05)
    await client.rpush(second, "late")
    assert await asyncio.wait_for(waiting, 20) == (second, "late")
    await client.rpush(second, "b")
    await client.rpush(first, "a")
    assert [await client.blpop([first, second], 5), await client.blpop([first, second], 5)] == [
        (first, "a"),
        (second, "b"),
    ]


@pytest.mark.contract("3.1-scripts")
async def test_scripts(client: RedisClient, redis_prefix: str) -> None:
    """Registered by its body, called by its SHA-1 with keys and arguments; an answer of text is text."""
    body = "redis.call('SET', KEYS[1], ARGV[1], 'EX', 60) return redis.call('GET', KEYS[1]) .. ARGV[2]"
    sha = await client.register_script(body)
    assert sha == hashlib.sha1(body.encode()).hexdigest()  # noqa: S324
    assert await client.execute_script(sha, [f"{redis_prefix}s"], ["a", 5]) == "a5"
    assert await client.execute_script(await client.register_script("return {1, 'x'}"), [], []) == [1, "x"]


@pytest.mark.contract("3.1-transaction")
async def test_a_transaction(client: RedisClient, redis_prefix: str) -> None:
    """A real transactional pipeline: twelve commands queued as they are, and a reply for each."""
    k = {name: redis_prefix + name for name in ("text", "set", "hash", "list", "gone")}
    await client.setex(k["gone"], 60, "v")
    pipe: Any = await client.create_transaction_pipeline(k["text"])
    assert Pipeline in type(pipe).__mro__
    pipe.multi()
    pipe.setex(k["text"], 60, "v")
    pipe.delete(k["gone"])
    pipe.sadd(k["set"], "a", "b")
    pipe.hset(k["hash"], "f", "v")
    pipe.rpush(k["list"], "x", "y")
    pipe.scard(k["set"])
    pipe.llen(k["list"])
    pipe.hlen(k["hash"])
    pipe.hget(k["hash"], "f")
    pipe.exists(k["text"])
    pipe.expire(k["list"], 60)
    pipe.spop(k["set"])
    assert await client.get(k["text"]) is None
    *replies, popped = await pipe.execute()
    assert replies == [True, 1, 2, 1, 2, 2, 2, 1, "v", 1, True]
    assert popped in {"a", "b"}
    await client.delete(*k.values())


@pytest.mark.contract("3.1-transaction-watches")
async def test_a_lost_race(client: RedisClient, redis_prefix: str) -> None:
    """Somebody else's write between reading and executing: nothing of the transaction has run."""
    watched, written = f"{redis_prefix}watched", f"{redis_prefix}written"
    pipe: Any = await client.create_transaction_pipeline(watched)
    assert await pipe.get(watched) is None
    await client.setex(watched, 60, "theirs")
    pipe.multi()
    pipe.setex(watched, 60, "ours")
    pipe.setex(written, 60, "ours")
    assert await _lost(pipe)
    assert [await client.get(watched), await client.get(written)] == ["theirs", None]


async def _lost(pipe: Any) -> bool:
    try:
        return await pipe.execute() is None
    except WatchError:
        return True


@pytest.mark.contract("3.1-transaction-unwatched")
async def test_a_transaction_that_watches_nothing(client: RedisClient, redis_prefix: str) -> None:
    """`multi` may be called all the same."""
    pipe: Any = await client.create_transaction_pipeline()
    pipe.multi()
    pipe.setex(f"{redis_prefix}k", 60, "v")
    assert await pipe.execute() == [True]
