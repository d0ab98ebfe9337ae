"""Publish/subscribe and set operations when the driver fails: on a double of the driver, without a server."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from structlog.testing import capture_logs

from huleedu_service_libs import redis_pubsub
from huleedu_service_libs.redis_pubsub import RedisPubSub
from huleedu_service_libs.redis_set_operations import RedisSetOperations

ERRORS = [RedisConnectionError("lost"), OSError("lost"), TimeoutError("lost")]
by_kind = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


def _swallowed(client_id: str, operation: str) -> float:
    labels = {"client_id": client_id, "operation": operation}
    return REGISTRY.get_sample_value("huleedu_redis_client_swallowed_errors_total", labels) or 0.0


def _subscription(**behaviour: Any) -> tuple[MagicMock, AsyncMock]:
    """A driver's client, and the subscription that it hands out."""
    subscription = AsyncMock(**behaviour)
    client = MagicMock()
    client.pubsub.return_value = subscription
    return client, subscription


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
async def test_a_failed_subscription_is_closed(error: Exception) -> None:
    """The error is logged and raised, and the connection is given back."""
    client, subscription = _subscription(**{"subscribe.side_effect": error})
    with capture_logs() as logs, pytest.raises(type(error)):
        async with RedisPubSub(client, "p").subscribe("c"):
            raise AssertionError("not reached")
    assert [(entry["log_level"], entry["operation"]) for entry in logs] == [("error", "subscribe")]
    subscription.aclose.assert_awaited_once()


async def test_a_subscription_that_nobody_confirms_fails() -> None:
    """No word from the server is an error, not a subscription that misses messages."""
    client, _ = _subscription(**{"get_message.return_value": None})
    with pytest.raises(RedisTimeoutError, match="did not confirm"):
        async with RedisPubSub(client, "p").subscribe("c"):
            raise AssertionError("not reached")


@by_kind
async def test_errors_of_closing_are_swallowed_and_counted(error: Exception) -> None:
    """Neither a failed unsubscription nor a failed close reaches the caller; both are counted."""
    client, _ = _subscription(**{"unsubscribe.side_effect": error, "aclose.side_effect": error})
    before = _swallowed("closing", "unsubscribe"), _swallowed("closing", "close")
    async with RedisPubSub(client, "closing").subscribe("c"):
        pass
    assert (_swallowed("closing", "unsubscribe"), _swallowed("closing", "close")) == (before[0] + 1, before[1] + 1)


async def test_closing_a_subscription_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that hangs while it is closed holds nobody."""
    monkeypatch.setattr(redis_pubsub, "_CLEAN_UP_S", 0.01)
    client, subscription = _subscription()
    subscription.unsubscribe = lambda _channel: asyncio.Event().wait()
    subscription.aclose = asyncio.Event().wait
    async with asyncio.timeout(15):
        async with RedisPubSub(client, "hanging").subscribe("c"):
            pass
    assert (_swallowed("hanging", "unsubscribe"), _swallowed("hanging", "close")) == (1, 1)
