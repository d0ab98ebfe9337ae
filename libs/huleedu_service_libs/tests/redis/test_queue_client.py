"""The queue client's life, its errors and its ports; what its commands do is in the conformance suite."""

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock, MagicMock

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from huleedu_service_libs.queue_models import PriorityScore, QueueItem, QueueItemId
from huleedu_service_libs.queue_protocols import QueueRedisClientProtocol, QueueRedisPipelineProtocol
from huleedu_service_libs.queue_redis_client import QueueRedisClient, QueueRedisPipeline
from huleedu_service_libs.redis_client import RedisClientConfig, RedisUnreachableError
from huleedu_service_libs.testing.devstack import free_ports
from tests.contract.commands import OF_THE_QUEUE

_NOT_RUNNING = r"^Queue Redis client 'cold' is not running\.$"


def _parameters(member: Callable[..., Any]) -> tuple[bool, list[inspect.Parameter]]:
    return inspect.iscoroutinefunction(member), list(inspect.signature(member).parameters.values())


def _members(kind: type) -> dict[str, Any]:
    functions = inspect.getmembers(kind, inspect.isfunction)
    return {name: _parameters(member) for name, member in functions if not name.startswith("_")}


def _unreachable(**config: Any) -> QueueRedisClient:
    (port,) = free_ports(1)
    url = f"redis://someone:hemlig@127.0.0.1:{port}"
    return QueueRedisClient(client_id="cold", redis_url=url, config=RedisClientConfig(**config))


@pytest.mark.parametrize(("name", "arguments"), OF_THE_QUEUE, ids=[name for name, _ in OF_THE_QUEUE])
async def test_every_command_needs_a_started_client(name: str, arguments: tuple[Any, ...]) -> None:
    """A client that is not started says so, and by which name."""
    with pytest.raises(RuntimeError, match=_NOT_RUNNING):
        await getattr(_unreachable(), name)(*arguments)


def test_a_pipeline_needs_a_started_client() -> None:
    """So does the one member that is not awaited."""
    with pytest.raises(RuntimeError, match=_NOT_RUNNING):
        _unreachable().pipeline()


@pytest.mark.integration
async def test_ping_starts_the_client(redis_url: str) -> None:
    """The first `ping` starts it, with one warning; stopped, its commands are refused again; it starts anew."""
    client = QueueRedisClient(client_id="cold", redis_url=redis_url)
    await client.stop()
    with capture_logs() as logs:
        assert await client.ping() is True
    assert [entry["log_level"] for entry in logs].count("warning") == 1
    await client.start()
    assert await client.zcard("k") == 0
    await client.stop()
    await client.stop()
    with pytest.raises(RuntimeError, match=_NOT_RUNNING):
        await client.zcard("k")
    assert await client.ping() is True
    await client.stop()


async def test_ping_raises_where_nobody_answers() -> None:
    """Unlike the other client's, it raises; the error names client and address, not the password."""
    client = _unreachable(start_timeout_s=5)
    with capture_logs() as logs, pytest.raises(RedisUnreachableError) as caught:
        await client.ping()
    assert "'cold'" in str(caught.value)
    assert "hemlig" not in f"{caught.value!r} {caught.value} {client!r} {logs}"
    assert client._started is False


async def test_a_lost_server_is_logged_once_and_raised() -> None:
    """The caller gets the driver's error unchanged, the log one line that names the command."""
    client = _unreachable()
    client._started = True
    with capture_logs() as logs, pytest.raises(RedisConnectionError):
        await client.hget("k", "f")
    assert [(entry["log_level"], entry["operation"]) for entry in logs] == [("error", "hget")]
    with capture_logs() as logs, pytest.raises(RedisConnectionError):
        await client.pipeline().delete("k").execute()
    assert [(entry["log_level"], entry["operation"]) for entry in logs] == [("error", "execute")]


@pytest.mark.parametrize(
    ("name", "arguments"), [("zcard", ("k",)), ("hkeys", ("k",)), ("hgetall", ("k",)), ("zrange", ("k", 0, -1))]
)
async def test_an_unexpected_reply_is_a_type_error(name: str, arguments: tuple[Any, ...]) -> None:
    """Something else than Redis promises is not handed on; the error says what came instead of what."""
    client = _unreachable()
    client._started, client.client = True, AsyncMock(**{f"{name}.return_value": b"OK"})
    with pytest.raises(TypeError, match=f"answered {name} with bytes"):
        await getattr(client, name)(*arguments)


async def test_an_unexpected_reply_of_a_pipeline_is_a_type_error() -> None:
    """The same for what `execute` gives."""
    driver = MagicMock(execute=AsyncMock(return_value=None))
    with pytest.raises(TypeError, match="answered execute with NoneType, expected list"):
        await QueueRedisPipeline(driver, "odd").delete("k").execute()


def test_the_ports_are_what_the_classes_offer() -> None:
    """Each member of a port is there with the same parameters; doubles made from either are alike."""
    assert _members(QueueRedisClientProtocol) == _members(QueueRedisClient)
    assert _members(QueueRedisPipelineProtocol) == _members(QueueRedisPipeline)


def test_an_item_reads_what_redis_gives() -> None:
    """A member and its score, whatever number it came as."""
    item = QueueItem.from_redis_tuple(("a", 3))
    assert item == QueueItem(item_id=QueueItemId("a"), priority=PriorityScore(3.0))
    assert isinstance(item.priority, float)
