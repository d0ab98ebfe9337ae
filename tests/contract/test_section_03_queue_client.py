"""Section 3.4: the queue of llm_provider_service. A sorted set of ids, and hashes of what is queued."""

import dataclasses
import socket
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import AsyncMock

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.queue_models import PriorityScore, QueueItem, QueueItemId
from huleedu_service_libs.queue_protocols import QueueRedisClientProtocol, QueueRedisPipelineProtocol
from huleedu_service_libs.queue_redis_client import QueueRedisClient, QueueRedisPipeline
from tests.contract.commands import OF_THE_QUEUE
from tests.contract.signatures import Wanted, lines

CLIENT = """
async {}.start()
async {}.stop()
async {}.ping()
async {}.zadd(key, mapping)
async {}.zrem(key, *members)
async {}.zcard(key)
async {}.zrange(key, start, end, *, withscores=False)
async {}.get_queue_items(queue_key, count)
async {}.get_queue_items_with_priorities(queue_key, count)
async {}.hset(key, field, value)
async {}.hget(key, field)
async {}.hmget(key, *fields)
async {}.hdel(key, *fields)
async {}.hexists(key, field)
async {}.hkeys(key)
async {}.hgetall(key)
async {}.exists(key)
async {}.delete(key)
async {}.setex(key, ttl_seconds, value)
def {}.pipeline()
"""
PIPELINE = """
def {}.zadd(key, mapping)
def {}.zrem(key, *members)
def {}.hset(key, field, value)
def {}.hdel(key, *fields)
def {}.delete(key)
def {}.setex(key, ttl_seconds, value)
async {}.execute()
"""
TABLE = f"""
[3.4-signatures]
class queue_redis_client:QueueRedisClient(*, client_id, redis_url=...)
class queue_redis_client:QueueRedisPipeline(pipeline, client_id)
{CLIENT.replace("{}", "queue_redis_client:QueueRedisClient")}
{CLIENT.replace("{}", "queue_protocols:QueueRedisClientProtocol")}
{PIPELINE.replace("{}", "queue_redis_client:QueueRedisPipeline")}
{PIPELINE.replace("{}", "queue_protocols:QueueRedisPipelineProtocol")}
"""
COURSES: dict[str, list[tuple[str, tuple[Any, ...], Any]]] = {
    "3.4-sorted-sets": [
        ("zcard", ("z",), 0),
        ("zrange", ("z", 0, -1), []),
        ("zadd", ("z", {"late": 2.5, "soon": 1.0}), 2),
        ("zcard", ("z",), 2),
        ("zrange", ("z", 0, -1), ["soon", "late"]),
        ("zrem", ("z", "soon", "absent"), 1),
    ],
    "3.4-queue-items": [
        ("get_queue_items", ("q", 5), []),
        ("zadd", ("q", {"c": 3.0, "a": -1.0, "b": 0.5}), 3),
        ("get_queue_items", ("q", 2), ["a", "b"]),
        (
            "get_queue_items_with_priorities",
            ("q", 2),
            [QueueItem(QueueItemId("a"), PriorityScore(-1.0)), QueueItem(QueueItemId("b"), PriorityScore(0.5))],
        ),
    ],
    "3.4-hashes": [
        ("hget", ("h", "f"), None),
        ("hgetall", ("h",), {}),
        ("hkeys", ("h",), []),
        ("hset", ("h", "f", "värde"), 1),
        ("hset", ("h", "f", "v"), 0),
        ("hset", ("h", "g", "w"), 1),
        ("hget", ("h", "f"), "v"),
        ("hmget", ("h", "g", "absent", "f"), ["w", None, "v"]),
        ("hkeys", ("h",), ["f", "g"]),
        ("hgetall", ("h",), {"f": "v", "g": "w"}),
        ("hexists", ("h", "f"), True),
        ("hdel", ("h", "f", "absent"), 1),
        ("hexists", ("h", "f"), False),
    ],
    "3.4-keys": [
        ("exists", ("k",), False),
        ("setex", ("k", 60, "v"), True),
        ("exists", ("k",), True),
        ("delete", ("k",), 1),
        ("delete", ("k",), 0),
    ],
}


@pytest.mark.parametrize("wanted", lines("03 queue client", TABLE), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.contract("3.4-signatures")
@pytest.mark.parametrize("port", [QueueRedisClientProtocol, QueueRedisPipelineProtocol])
def test_the_ports_can_be_subclassed(port: Any) -> None:
    """Protocols without abstract members, as all ports."""
    assert port._is_protocol is True
    type("Double", (port,), {})()


@pytest.mark.contract("3.4-models")
def test_models() -> None:
    """An item is made of the pair that Redis gives, its score a float; it is frozen."""
    item = QueueItem.from_redis_tuple(("essay-1", 2.5))
    assert item == QueueItem(item_id=QueueItemId("essay-1"), priority=PriorityScore(2.5))
    assert [field.name for field in dataclasses.fields(QueueItem)] == ["item_id", "priority"]
    new_types: tuple[Any, ...] = (QueueItemId, PriorityScore)
    assert [one.__supertype__ for one in new_types] == [str, float]
    with pytest.raises(dataclasses.FrozenInstanceError):
        item.priority = PriorityScore(1.0)  # type: ignore[misc]


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[QueueRedisClient]:
    client = QueueRedisClient(client_id="contract", redis_url=redis_url)
    await client.start()
    yield client
    await client.stop()


@pytest.mark.contract("3.4-attributes")
async def test_attributes_and_life(redis_url: str) -> None:
    """What was given can be read; the flag follows start and stop, each of which may be repeated."""
    client = QueueRedisClient(client_id="q-1", redis_url=redis_url)
    assert (client.client_id, client.redis_url) == ("q-1", redis_url)
    assert isinstance(client.client, Redis)
    flags = [client._started]
    await client.stop()
    await client.start()
    await client.start()
    flags.append(client._started)
    await client.stop()
    await client.stop()
    assert [*flags, client._started] == [False, True, False]


@pytest.mark.contract("3.4-not-started")
@pytest.mark.parametrize(("method", "arguments"), OF_THE_QUEUE, ids=[name for name, _ in OF_THE_QUEUE])
async def test_a_queue_that_is_not_running_says_so(method: str, arguments: tuple[Any, ...]) -> None:
    """The text of the error has the client's name, for every command."""
    client = QueueRedisClient(client_id="q-1", redis_url="redis://nowhere.invalid:1")
    with pytest.raises(RuntimeError, match=r"Queue Redis client 'q-1' is not running\."):
        await _called(client, method, arguments)


async def _called(client: QueueRedisClient, method: str, arguments: tuple[Any, ...]) -> None:
    """One of them is plain, and raises when it is called."""
    await getattr(client, method)(*arguments)


@pytest.mark.contract("3.4-ping")
async def test_ping_starts_and_raises(redis_url: str) -> None:
    """It starts the client; a server that cannot be reached is an exception here."""
    client = QueueRedisClient(client_id="q", redis_url=redis_url)
    assert (await client.ping(), client._started) == (True, True)
    await client.stop()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(RedisConnectionError):
        await QueueRedisClient(client_id="q", redis_url=f"redis://127.0.0.1:{port}").ping()


@pytest.mark.parametrize(
    "course", [pytest.param(course, marks=pytest.mark.contract(row), id=row) for row, course in COURSES.items()]
)
async def test_a_course_of_commands(
    course: list[tuple[str, tuple[Any, ...], Any]], client: QueueRedisClient, redis_prefix: str
) -> None:
    """Each command in turn gives exactly what is listed, of exactly that type."""
    for method, (key, *others), wanted in course:
        found = await getattr(client, method)(redis_prefix + key, *others)
        assert (type(found), found) == (type(wanted), wanted), f"{method}({key}, {others})"


@pytest.mark.contract("3.4-sorted-sets")
async def test_a_range_with_scores(client: QueueRedisClient, redis_prefix: str) -> None:
    """Pairs of member and score, the score a float."""
    await client.zadd(f"{redis_prefix}z", {"b": 2, "a": 1.5})
    found = await client.zrange(f"{redis_prefix}z", 0, -1, withscores=True)
    assert found == [("a", 1.5), ("b", 2.0)]
    assert [type(pair) for pair in found] == [tuple, tuple]
    assert all(type(score) is float for _, score in found)


@pytest.mark.contract("3.4-keys")
async def test_a_time_to_live(client: QueueRedisClient, redis_prefix: str) -> None:
    """The second argument of `setex` is seconds."""
    await client.setex(f"{redis_prefix}k", 60, "v")
    assert await client.client.ttl(f"{redis_prefix}k") in {59, 60}
    assert await client.client.get(f"{redis_prefix}k") == "v"


@pytest.mark.contract("3.4-pipeline")
async def test_a_pipeline_of_a_queue(client: QueueRedisClient, redis_prefix: str) -> None:
    """Commands chain, nothing runs before `execute`, and each has its reply."""
    queue, item, other = (redis_prefix + name for name in ("queue", "item", "other"))
    pipe = client.pipeline()
    assert isinstance(pipe, QueueRedisPipeline)
    chained = pipe.zadd(queue, {"a": 1.0}).hset(item, "f", "v").setex(other, 60, "v").hdel(item, "f").zrem(queue, "a")
    assert chained is pipe
    assert await client.zcard(queue) == 0
    assert await pipe.delete(other).execute() == [1, 1, True, 1, 1, 1]


@pytest.mark.contract("3.4-odd-replies")
async def test_odd_replies_are_refused() -> None:
    """A driver that gives something else than promised is told by a TypeError, not by a wrong value."""
    client = QueueRedisClient(client_id="q", redis_url="redis://nowhere.invalid:1")
    client.client, client._started = AsyncMock(zcard=AsyncMock(return_value="many")), True
    with pytest.raises(TypeError):
        await client.zcard("k")
    pipe: Any = QueueRedisPipeline(AsyncMock(execute=AsyncMock(return_value="OK")), "q")
    with pytest.raises(TypeError):
        await pipe.execute()
