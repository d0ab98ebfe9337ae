"""Section 4: the ports that services' doubles are made of."""

import inspect
from typing import Any, Protocol
from unittest.mock import AsyncMock

import pytest

from huleedu_service_libs import protocols
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol, RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from tests.contract.signatures import Wanted, lines

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
CLIENT = "redis_client:RedisClient"
TABLE = f"""
[4-redis]
{PLAIN.replace("{}", "protocols:RedisClientProtocol")}
[4-atomic]
{(PLAIN + ATOMIC).replace("{}", "protocols:AtomicRedisClientProtocol")}
async protocols:AtomicRedisClientProtocol.blpop(keys, timeout)
[4-kafka]
async protocols:KafkaPublisherProtocol.start()
async protocols:KafkaPublisherProtocol.stop()
async protocols:KafkaPublisherProtocol.publish(topic, envelope, key=None, headers=None)
[3.1-signatures]
class {CLIENT}(*, client_id, redis_url=...)
async {CLIENT}.start()
async {CLIENT}.stop()
{(PLAIN + ATOMIC).replace("{}", CLIENT)}
async {CLIENT}.blpop(keys, timeout=0)
"""
PORTS = (RedisClientProtocol, AtomicRedisClientProtocol, KafkaPublisherProtocol)


@pytest.mark.parametrize("wanted", lines("03 Redis client, 04 ports", TABLE), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _names(table: str) -> set[str]:
    return {line.partition("{}.")[2].partition("(")[0] for line in table.splitlines() if line}


def _members(port: type) -> set[str]:
    return {name for home in port.__mro__ for name in vars(home) if not name.startswith("_")}


@pytest.mark.contract("4-redis", "4-atomic", "4-kafka")
def test_ports_have_no_further_members() -> None:
    """A double that has the members of the contract is complete: the library asks for nothing else."""
    assert _members(RedisClientProtocol) == _names(PLAIN)
    assert _members(AtomicRedisClientProtocol) == _names(PLAIN + ATOMIC) | {"blpop"}
    assert _members(KafkaPublisherProtocol) == {"start", "stop", "publish"}


@pytest.mark.contract("4-exports")
def test_exports() -> None:
    """Four names at least; each of them exists."""
    wanted = {"RedisClientProtocol", "AtomicRedisClientProtocol", "KafkaPublisherProtocol", "T_EventPayload"}
    assert set(protocols.__all__) >= wanted
    assert all(hasattr(protocols, name) for name in protocols.__all__)


@pytest.mark.contract("4-plain-protocols")
@pytest.mark.parametrize("port", PORTS)
def test_ports_are_protocols_without_abstract_members(port: Any) -> None:
    """Each can be subclassed and the subclass be made, whatever it overrides."""
    assert Protocol in port.__mro__
    assert port._is_protocol is True
    assert not getattr(port, "__abstractmethods__", None)
    type("Double", (port,), {})()


@pytest.mark.contract("4-concrete-fits")
@pytest.mark.parametrize(
    ("concrete", "port"), [(RedisClient, AtomicRedisClientProtocol), (KafkaBus, KafkaPublisherProtocol)]
)
def test_the_clients_have_what_the_ports_promise(concrete: Any, port: Any) -> None:
    """Every member is there, of its own making and of the same form: awaited or plain."""
    for name in _members(port):
        ours, promised = getattr(concrete, name), getattr(port, name)
        assert ours is not promised, f"{concrete.__name__}.{name} is the port's empty one"
        assert inspect.iscoroutinefunction(ours) == inspect.iscoroutinefunction(promised), name


@pytest.mark.contract("4-atomic")
async def test_a_mock_of_the_port_is_awaited_where_it_must() -> None:
    """`AsyncMock(spec=...)` tells by the port which calls are awaited: all but two."""
    mock = AsyncMock(spec=AtomicRedisClientProtocol)
    mock.get.return_value, mock.get_user_channel.return_value = "a", "ws:u"
    assert (await mock.get("a"), mock.get_user_channel("u")) == ("a", "ws:u")
    assert not inspect.iscoroutine(mock.subscribe("c"))
