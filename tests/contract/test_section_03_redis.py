"""Sections 3 and 4: Redis clients, and the ports that services' doubles are made of."""

from unittest.mock import AsyncMock

import pytest

from huleedu_service_libs import protocols
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, RedisClientProtocol
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_client import RedisClient
from tests.contract.signatures import Wanted, lines

CLIENT = """
class redis_client:RedisClient(*, client_id, redis_url=...)
async redis_client:RedisClient.start()
async redis_client:RedisClient.stop()
def redis_client:RedisClient.watch(*keys)
def redis_client:RedisClient.multi()
async redis_client:RedisClient.exec(transaction)
"""
PLAIN = """
async {}.set_if_not_exists(key, value, ttl_seconds=None)
async {}.get(key)
async {}.setex(key, ttl_seconds, value)
async {}.ping()
async {}.delete_key(key)
async {}.delete(*keys)
"""
ATOMIC = """
async {}.create_transaction_pipeline(*watch_keys)
async {}.scan_pattern(pattern)
async {}.publish(channel, message)
def {}.subscribe(channel)
def {}.get_user_channel(user_id)
async {}.publish_user_notification(user_id, event_type, data)
async {}.sadd(key, *members)
async {}.srem(key, *members)
async {}.scard(key)
async {}.spop(key)
async {}.smembers(key)
async {}.zadd(key, mapping)
async {}.zrem(key, *members)
async {}.hset(key, field, value)
async {}.hget(key, field)
async {}.hlen(key)
async {}.hgetall(key)
async {}.hexists(key, field)
async {}.expire(key, ttl_seconds)
async {}.rpush(key, *values)
async {}.lpush(key, *values)
async {}.llen(key)
async {}.lrange(key, start, stop)
async {}.ttl(key)
async {}.exists(key)
async {}.register_script(script_body)
async {}.execute_script(sha, keys, args)
"""
OTHERS = """
async redis_client:RedisClient.blpop(keys, timeout=0)
async protocols:AtomicRedisClientProtocol.blpop(keys, timeout)
async protocols:KafkaPublisherProtocol.start()
async protocols:KafkaPublisherProtocol.stop()
async protocols:KafkaPublisherProtocol.publish(topic, envelope, key=None, headers=None)
class redis_pubsub:RedisPubSub(client, client_id)
async redis_pubsub:RedisPubSub.publish(channel, message)
def redis_pubsub:RedisPubSub.subscribe(channel)
def redis_pubsub:RedisPubSub.get_user_channel(user_id)
async redis_pubsub:RedisPubSub.publish_user_notification(user_id, event_type, data)
class redis_set_operations:RedisSetOperations(client, client_id)
async redis_set_operations:RedisSetOperations.sadd(key, *members)
async redis_set_operations:RedisSetOperations.smembers(key)
async redis_set_operations:RedisSetOperations.srem(key, *members)
def redis_set_operations:RedisSetOperations.pipeline()
class queue_redis_client:QueueRedisClient(*, client_id, redis_url=...)
async queue_redis_client:QueueRedisClient.start()
async queue_redis_client:QueueRedisClient.stop()
class queue_redis_client:QueueRedisPipeline(pipeline, client_id)
"""
QUEUE = """
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
OF_CLASSES = [
    *[PLAIN.format(*[name] * 6) for name in ("redis_client:RedisClient", "protocols:RedisClientProtocol")],
    PLAIN.replace("{}", "protocols:AtomicRedisClientProtocol"),
    *[ATOMIC.replace("{}", n) for n in ("redis_client:RedisClient", "protocols:AtomicRedisClientProtocol")],
    *[
        QUEUE.replace("{}", n)
        for n in ("queue_redis_client:QueueRedisClient", "queue_protocols:QueueRedisClientProtocol")
    ],
    *[
        PIPELINE.replace("{}", n)
        for n in ("queue_redis_client:QueueRedisPipeline", "queue_protocols:QueueRedisPipelineProtocol")
    ],
]
ATOMIC_MEMBERS = {line.partition("{}.")[2].partition("(")[0] for line in (PLAIN + ATOMIC).splitlines() if line} | {
    "blpop"
}


@pytest.mark.parametrize("wanted", lines("03 Redis, 04 ports", CLIENT + OTHERS + "".join(OF_CLASSES)), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def test_ports_have_no_further_members() -> None:
    """A double that has the members of the contract is complete: the library asks for nothing else."""
    members = {name for port in AtomicRedisClientProtocol.__mro__ for name in vars(port) if not name.startswith("_")}
    assert members == ATOMIC_MEMBERS
    assert {name for name in vars(RedisClientProtocol) if not name.startswith("_")} == {
        line.partition("{}.")[2].partition("(")[0] for line in PLAIN.splitlines() if line
    }
    assert set(protocols.__all__) >= {
        "RedisClientProtocol",
        "AtomicRedisClientProtocol",
        "KafkaPublisherProtocol",
        "T_EventPayload",
    }


async def test_doubles_are_made_in_three_ways() -> None:
    """`AsyncMock(spec=...)`, a class with some methods, and a subclass of the port that overrides only one."""

    class Double(AtomicRedisClientProtocol):
        async def get(self, key: str) -> str | None:
            return key

    double = Double()  # type: ignore[abstract]  # for mypy, whatever has no body
    mock = AsyncMock(spec=AtomicRedisClientProtocol)
    mock.get.return_value = "a"
    mock.get_user_channel.return_value = "ws:u"
    assert (await mock.get("a"), mock.get_user_channel("u"), await double.get("b")) == ("a", "ws:u", "b")


async def test_what_is_not_running_says_so() -> None:
    """The text of the error has the client's name, and nothing is connected by construction."""
    client, queue = RedisClient(client_id="c-1", redis_url="redis://nowhere:1"), QueueRedisClient(client_id="q-1")
    assert (client.client_id, client.redis_url, client._started) == ("c-1", "redis://nowhere:1", False)
    assert AtomicRedisClientProtocol in RedisClient.__mro__
    with pytest.raises(RuntimeError, match=r"Redis client 'c-1' is not running\."):
        await client.hget("k", "f")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        client.get_user_channel("u")
    with pytest.raises(RuntimeError, match=r"Queue Redis client 'q-1' is not running\."):
        await queue.zcard("k")
