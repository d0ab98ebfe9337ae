"""Channels, and notifications to users."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import RedisPubSub
from huleedu_service_libs.redis_set_operations import RedisSetOperations
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import RedisServer

pytestmark = pytest.mark.integration


async def _next(pubsub: Any) -> dict[str, Any]:
    for _ in range(20):
        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)
        if message is not None:
            return dict(message)
    raise AssertionError("no message")


async def test_a_subscriber_gets_what_is_published_once_the_block_began(client: RedisClient, redis_prefix: str) -> None:
    """The subscription stands when the block begins: the very next message has one receiver."""
    channel = f"{redis_prefix}c"
    async with client.subscribe(channel) as pubsub:
        assert await client.publish(channel, "hallå") == 1
        message = await _next(pubsub)
    assert (message["type"], message["channel"], message["data"]) == ("message", channel, "hallå")
    assert await client.publish(channel, "nobody") == 0


async def test_an_error_in_the_block_still_unsubscribes(client: RedisClient, redis_prefix: str) -> None:
    """The caller's error comes out, the subscription is gone."""
    channel = f"{redis_prefix}c"
    with pytest.raises(ZeroDivisionError):
        async with client.subscribe(channel):
            _ = 1 / 0
    assert await client.publish(channel, "nobody") == 0


async def test_cancellation_unsubscribes(client: RedisClient, redis_prefix: str) -> None:
    """A cancelled reader leaves no subscription and no connection behind."""
    channel = f"{redis_prefix}c"
    reading = asyncio.Event()

    async def read() -> None:
        async with client.subscribe(channel) as pubsub:
            reading.set()
            while True:
                await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0)

    task = asyncio.create_task(read())
    await reading.wait()
    assert await client.publish(channel, "x") == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await client.publish(channel, "x") == 0
    assert not client._connections.subscriptions.connection_pool._in_use_connections


async def test_a_subscription_survives_a_restart_of_the_server(
    client: RedisClient, redis_server: RedisServer, redis_prefix: str
) -> None:
    """The yielded object connects and subscribes again by itself."""
    channel = f"{redis_prefix}c"
    async with client.subscribe(channel) as pubsub:
        try:
            await asyncio.to_thread(redis_server.restart)
        except NotOursError as error:
            pytest.skip(str(error))

        async def keep_publishing() -> None:
            while True:
                with suppress(RedisConnectionError):
                    await client.publish(channel, "after")
                await asyncio.sleep(0.05)

        publishing = asyncio.create_task(keep_publishing())
        message = await asyncio.wait_for(_next(pubsub), 15)
        publishing.cancel()
        assert message["data"] == "after"


class _Colour(Enum):
    RED = "röd"


class _Model(BaseModel):
    at: datetime
    token: SecretStr


@dataclass
class _Row:
    number: int


async def test_notifications_carry_what_events_carry(client: RedisClient, unique_name: str) -> None:
    """Ids, dates, enums, models, decimals and sets take their JSON form; exactly two keys; text stays readable."""
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    identity = UUID("12345678-1234-5678-1234-567812345678")
    data: dict[Any, Any] = {
        "id": identity,
        "at": moment,
        "colour": _Colour.RED,
        "model": _Model(at=moment, token=SecretStr("hemlig")),
        "row": _Row(number=7),
        "share": Decimal("0.10"),
        "tags": {"å"},
        identity: 1,
    }
    async with client.subscribe(f"ws:{unique_name}") as pubsub:
        assert await client.publish_user_notification(unique_name, "uppsats_klar", data) == 1
        text = (await _next(pubsub))["data"]
    assert "röd" in text
    assert "hemlig" not in text
    assert json.loads(text) == {
        "event": "uppsats_klar",
        "data": {
            "id": str(identity),
            "at": "2026-01-02T03:04:05+00:00",
            "colour": "röd",
            "model": {"at": "2026-01-02T03:04:05Z", "token": "**********"},
            "row": {"number": 7},
            "share": "0.10",
            "tags": ["å"],
            str(identity): 1,
        },
    }


async def test_a_notification_without_json_form_is_refused(client: RedisClient) -> None:
    """What has no JSON form raises TypeError, and nothing is published."""
    with pytest.raises(TypeError):
        await client.publish_user_notification("u", "e", {"x": object()})


async def test_pubsub_stands_alone(client: RedisClient, redis_prefix: str) -> None:
    """A service can build it on a driver client of its own."""
    pubsub = RedisPubSub(client.client, "own")
    assert pubsub.get_user_channel("42") == "ws:42"
    async with pubsub.subscribe(f"{redis_prefix}c") as subscription:
        assert await pubsub.publish(f"{redis_prefix}c", "m") == 1
        assert (await _next(subscription))["data"] == "m"


async def test_set_operations(client: RedisClient, redis_prefix: str) -> None:
    """Sets on somebody's driver client; a pipeline runs nothing unless told to."""
    sets = RedisSetOperations(client.client, "cache")
    key = f"{redis_prefix}s"
    assert await sets.sadd(key, "a", "b") == 2
    assert await sets.smembers(key) == {"a", "b"}
    assert await sets.srem(key, "b") == 1
    async with sets.pipeline() as pipe:
        await pipe.sadd(key, "c")
    assert await sets.smembers(key) == {"a"}
    async with sets.pipeline() as pipe:
        await pipe.sadd(key, "c")
        await pipe.expire(key, 60)
        assert await pipe.execute() == [1, True]
