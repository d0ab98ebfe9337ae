"""Sections 3.2 and 3.3: publish/subscribe, and the sets of result_aggregator_service."""

import asyncio
import contextlib
import json
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from redis.asyncio.client import Pipeline

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import RedisPubSub
from huleedu_service_libs.redis_set_operations import RedisSetOperations
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[3.2-signatures]
class redis_pubsub:RedisPubSub(client, client_id)
async redis_pubsub:RedisPubSub.publish(channel, message)
def redis_pubsub:RedisPubSub.subscribe(channel)
def redis_pubsub:RedisPubSub.get_user_channel(user_id)
async redis_pubsub:RedisPubSub.publish_user_notification(user_id, event_type, data)
[3.3-signatures]
class redis_set_operations:RedisSetOperations(client, client_id)
async redis_set_operations:RedisSetOperations.sadd(key, *members)
async redis_set_operations:RedisSetOperations.smembers(key)
async redis_set_operations:RedisSetOperations.srem(key, *members)
def redis_set_operations:RedisSetOperations.pipeline()
"""


@pytest.mark.parametrize("wanted", lines("03 publish/subscribe, sets", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.fixture(name="pubsub", params=["the client's", "one of its own"])
async def _pubsub(request: pytest.FixtureRequest, client: RedisClient) -> Any:
    """Publish/subscribe through the started client, and one that a service makes of the raw client."""
    return client if request.param == "the client's" else RedisPubSub(client.client, "contract")


async def _message(subscription: Any, seconds: float = 10) -> Any:
    """The next message, as a service asks for it again and again."""
    async with asyncio.timeout(seconds):
        while True:
            found = await subscription.get_message(ignore_subscribe_messages=True, timeout=20.0)
            if found is not None:
                return found


async def _nobody_listens(client: RedisClient, channel: str) -> bool:
    for _ in range(200):
        if await client.publish(channel, "anybody?") == 0:
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.mark.contract("3.2-publish", "3.2-subscribe")
async def test_a_message_reaches_a_subscriber(pubsub: Any, unique_name: str) -> None:
    """Nobody listens: none receives. Inside the block one does, and reads text with its channel."""
    assert await pubsub.publish(unique_name, "too early") == 0
    async with pubsub.subscribe(unique_name) as subscription:
        assert await subscription.get_message(ignore_subscribe_messages=True, timeout=0.05) is None
        assert await pubsub.publish(unique_name, "hej å") == 1
        message = await _message(subscription)
    assert (message["type"], message["channel"], message["data"]) == ("message", unique_name, "hej å")


@pytest.mark.contract("3.2-leaving")
async def test_leaving_unsubscribes(client: RedisClient, pubsub: Any, unique_name: str) -> None:
    """The end of the block ends the subscription, whether it is reached or left by an error."""
    with contextlib.suppress(KeyError):
        async with pubsub.subscribe(unique_name):
            raise KeyError(unique_name)
    async with pubsub.subscribe(unique_name):
        pass
    assert await _nobody_listens(client, unique_name)


@pytest.mark.contract("3.2-leaving")
async def test_a_broken_connection_does_not_disturb_leaving(client: RedisClient, pubsub: Any, unique_name: str) -> None:
    """The server has cut the subscriber's connection: the block ends as if nothing had happened."""
    async with pubsub.subscribe(unique_name):
        raw: Any = client.client
        await raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert await _nobody_listens(client, unique_name)


@pytest.mark.contract("3.2-user-channel")
async def test_the_channel_of_a_user(pubsub: Any) -> None:
    """A prefix and the id; asked for without awaiting."""
    assert pubsub.get_user_channel("elev-1") == "ws:elev-1"


@pytest.mark.contract("3.2-notification")
async def test_a_notification(pubsub: Any, client: RedisClient, unique_name: str) -> None:
    """JSON of two keys on the user's channel, read by the driver itself; the receivers are counted."""
    assert await pubsub.publish_user_notification(unique_name, "essay_graded", {}) == 0
    async with client.client.pubsub() as raw:
        await raw.subscribe(f"ws:{unique_name}")
        assert (await raw.get_message(timeout=20))["type"] == "subscribe"
        data = {"essay": "räksmörgås", "points": [1, None]}
        assert await pubsub.publish_user_notification(user_id=unique_name, event_type="essay_graded", data=data) == 1
        message = await _message(raw)
    assert json.loads(message["data"]) == {"event": "essay_graded", "data": data}


# 3.3


@pytest.mark.contract("3.3-attributes", "3.3-commands")
async def test_sets(client: RedisClient, redis_prefix: str) -> None:
    """Numbers of what was added and removed, and a set of text, empty when absent."""
    sets, key = RedisSetOperations(client.client, "contract"), f"{redis_prefix}s"
    assert (sets.client, sets.client_id) == (client.client, "contract")
    assert await sets.smembers(key) == set()
    assert (await sets.sadd(key, "a", "b"), await sets.sadd(key, "b", "ö")) == (2, 1)
    assert await sets.smembers(key) == {"a", "b", "ö"}
    assert await sets.srem(key, "a", "b", "ö", "absent") == 3


@pytest.mark.contract("3.3-pipeline")
async def test_a_pipeline_of_sets(client: RedisClient, redis_prefix: str) -> None:
    """Awaited one by one and then executed; a block that ends without that has changed nothing."""
    sets, key = RedisSetOperations(client.client, "contract"), f"{redis_prefix}p"
    async with sets.pipeline() as pipe:
        assert isinstance(pipe, Pipeline)
        await pipe.sadd(key, "never")
    assert await sets.smembers(key) == set()
    async with sets.pipeline() as pipe:
        await pipe.sadd(key, "a")
        await pipe.expire(key, 60)
        assert await pipe.execute() == [1, True]
    assert await sets.smembers(key) == {"a"}


@pytest.mark.contract("3.3-double")
async def test_a_mock_of_the_sets() -> None:
    """`pipeline` of a double of the class is a context manager, and is called without awaiting."""
    double = MagicMock(spec=RedisSetOperations)
    double.pipeline.return_value.__aenter__ = AsyncMock(return_value="pipe")
    double.pipeline.return_value.__aexit__ = AsyncMock(return_value=None)
    async with double.pipeline() as pipe:
        assert pipe == "pipe"
    double.smembers.return_value = {"a"}
    assert await double.smembers("k") == {"a"}
