"""Publish/subscribe and set operations when the driver fails: on a double of the driver, without a server."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from huleedu_service_libs.redis_pubsub import PubSubConfig, RedisPubSub
from huleedu_service_libs.redis_set_operations import RedisSetOperations

ERRORS = [RedisConnectionError("lost"), OSError("lost"), TimeoutError("lost")]
by_kind = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def _swallowed(client_id: str, operation: str) -> float:
    labels = {"client_id": client_id, "operation": operation}
    return REGISTRY.get_sample_value("huleedu_redis_client_swallowed_errors_total", labels) or 0.0


def _silent(*, confirms: int = 0) -> tuple[MagicMock, AsyncMock]:
    """A driver's client, and its connection to a server that answers so many commands and then falls silent."""
    answers = [[b"subscribe", b"c", 1]] * confirms
    connection = AsyncMock()
    connection.is_connected = True
    connection.pack_commands = MagicMock()
    connection._parser = MagicMock()

    async def read_response(**_: Any) -> Any:
        while connection.send_packed_command.await_count == 0 or not answers:
            await asyncio.sleep(0.001)
        return answers.pop()

    connection.read_response = read_response
    client = MagicMock()
    client.connection_pool.get_connection = AsyncMock(return_value=connection)
    client.connection_pool.release = AsyncMock()
    return client, connection


@by_kind
async def test_a_failed_publication_is_logged_once_and_raised(error: Exception) -> None:
    """Whatever kind of error the driver has, one line says what failed, and the caller gets it unchanged."""
    client = AsyncMock()
    client.publish.side_effect = error
    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        await RedisPubSub(client, "p").publish("c", "hemlig")
    assert caught.value is error
    assert [(entry["log_level"], entry["operation"], entry["channel"]) for entry in logs] == [("error", "publish", "c")]
    assert "hemlig" not in str(logs)


@by_kind
async def test_a_failed_set_operation_is_logged_once_and_raised(error: Exception) -> None:
    """The same for sets."""
    client = AsyncMock()
    client.sadd.side_effect = error
    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        await RedisSetOperations(client, "s").sadd("k", "m")
    assert caught.value is error
    assert [(entry["log_level"], entry["operation"]) for entry in logs] == [("error", "sadd")]


@by_kind
async def test_a_failed_subscription_is_logged_once_and_raised(error: Exception) -> None:
    """Without a connection there is no subscription: one line says so, the caller gets the driver's error."""
    client = MagicMock()
    client.connection_pool.get_connection = AsyncMock(side_effect=error)
    pubsub = RedisPubSub(client, "p")
    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        async with pubsub.subscribe("c"):
            raise AssertionError("not reached")
    assert caught.value is error
    assert [(entry["operation"], entry["channel"]) for entry in logs if entry["log_level"] == "error"] == [
        ("subscribe", "c")
    ]


async def test_a_subscription_that_nobody_confirms_fails() -> None:
    """No word from the server is an error, not a subscription that misses messages; its connection is given back."""
    client, connection = _silent()
    pubsub = RedisPubSub(client, "p", config=PubSubConfig(confirm_timeout_s=0.05, clean_up_timeout_s=0.05))
    with pytest.raises(RedisTimeoutError, match="did not confirm"):
        async with pubsub.subscribe("c"):
            raise AssertionError("not reached")
    connection.disconnect.assert_awaited_once()
    client.connection_pool.release.assert_awaited_once_with(connection)


async def test_leaving_a_channel_is_bounded() -> None:
    """A server that does not confirm the farewell holds nobody, and that is counted."""
    client, _ = _silent(confirms=1)
    async with asyncio.timeout(15):
        async with RedisPubSub(client, "hanging", config=PubSubConfig(clean_up_timeout_s=0.05)).subscribe("c"):
            pass
    assert _swallowed("hanging", "unsubscribe") == 1


async def test_errors_of_closing_are_swallowed_and_counted() -> None:
    """A connection that cannot be closed reaches no caller."""
    client, connection = _silent(confirms=2)
    connection.disconnect.side_effect = OSError("lost")
    async with RedisPubSub(client, "closing").subscribe("c"):
        pass
    assert _swallowed("closing", "close") == 1
