"""Section 3.1: the life of a `RedisClient`, and what it does while it is not started."""

import os
import socket
import subprocess
import sys
from typing import Any
from unittest.mock import AsyncMock, patch
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

import huleedu_service_libs
from huleedu_service_libs import protocols, redis_client
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from tests.contract.commands import OF_THE_CLIENT


def _nowhere() -> str:
    """An address at which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.contract("3-url-constant")
@pytest.mark.parametrize(("value", "found"), [(None, "redis://redis:6379"), ("redis://a:1/2", "redis://a:1/2")])
def test_the_address_comes_from_the_environment(value: str | None, found: str) -> None:
    """Read when the modules are imported; without a value it is the compose file's name."""
    env = {k: v for k, v in os.environ.items() if k != "REDIS_URL"} | ({"REDIS_URL": value} if value else {})
    code = """
from huleedu_service_libs import redis_client as r, queue_redis_client as q
print(r.REDIS_URL, q.REDIS_URL, r.RedisClient(client_id="c").redis_url, q.QueueRedisClient(client_id="c").redis_url)
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [found] * 4


@pytest.mark.contract("3-driver")
def test_the_driver() -> None:
    """redis-py's asynchronous client, with text for replies and five seconds of patience."""
    client = RedisClient(client_id="c", redis_url="redis://nowhere.invalid:1").client
    assert isinstance(client, Redis)
    settings = client.connection_pool.connection_kwargs
    assert settings["decode_responses"] is True
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (5, 5)


@pytest.mark.contract("3.1-exports")
def test_exports() -> None:
    """The client declares the port as its base; services import both from its module."""
    assert huleedu_service_libs.RedisClient is RedisClient
    assert redis_client.AtomicRedisClientProtocol is protocols.AtomicRedisClientProtocol
    assert AtomicRedisClientProtocol in RedisClient.__mro__


@pytest.mark.contract("3.1-no-io", "3.1-attributes", "3.1-started-flag")
def test_construction_touches_no_network() -> None:
    """No event loop, no name that is looked up: what was given can be read, and nothing has begun."""
    with patch.object(socket, "getaddrinfo", side_effect=AssertionError("the network was touched")):
        client = RedisClient(client_id="c-1", redis_url="redis://nowhere.invalid:1")
    assert (client.client_id, client.redis_url) == ("c-1", "redis://nowhere.invalid:1")
    assert (client._started, client._pubsub, client.pubsub) == (False, None, None)


@pytest.mark.contract("3.1-start", "3.1-started-flag", "3.1-attributes", "3.1-stop")
async def test_start_and_stop(redis_url: str) -> None:
    """Started twice it is started once, and reachable by the raw client; stopped twice it is stopped."""
    client = RedisClient(client_id="c", redis_url=redis_url)
    await client.start()
    pubsub = client.pubsub
    await client.start()
    flags = [client._started]
    assert pubsub is not None
    assert client.pubsub is client._pubsub is pubsub
    assert await client.client.ping() is True
    await client.stop()
    await client.stop()
    assert [*flags, client._started] == [True, False]


@pytest.mark.contract("3.1-attributes")
async def test_the_raw_client_can_empty_the_database(redis_url: str) -> None:
    """A service's test calls `flushdb` of the raw client; here on a database that nobody else uses."""
    own = urlsplit(redis_url)._replace(path="/9").geturl()
    client = RedisClient(client_id="c", redis_url=own)
    await client.setex("contract-flush", 60, "v")
    await client.client.flushdb()
    assert await client.get("contract-flush") is None
    await client.stop()


@pytest.mark.contract("3.1-start-refused", "3.1-start", "3.1-stop")
async def test_a_server_that_cannot_be_reached() -> None:
    """The driver's connection error is logged and raised; the client is not started, and stopping it is safe."""
    client = RedisClient(client_id="c", redis_url=_nowhere())
    with capture_logs() as logs, pytest.raises(RedisConnectionError):
        await client.start()
    assert "error" in {entry["log_level"] for entry in logs}
    assert client._started is False
    await client.stop()


@pytest.mark.contract("3.1-stop")
async def test_stop_before_start() -> None:
    """What never ran can be stopped."""
    await RedisClient(client_id="c", redis_url="redis://nowhere.invalid:1").stop()


@pytest.mark.contract("3.1-stop")
async def test_errors_of_stopping_are_swallowed(redis_url: str) -> None:
    """The connection that cannot be closed is logged, and the client counts as stopped."""
    client = RedisClient(client_id="c", redis_url=redis_url)
    await client.start()
    original, failing = Redis.aclose, AsyncMock(side_effect=OSError("cannot close"))
    with patch.object(Redis, "aclose", failing), capture_logs() as logs:
        await client.stop()
    await original(client.client)
    assert any("cannot close" in str(entry) for entry in logs)
    assert client._started is False


@pytest.mark.contract("3.1-not-started-auto")
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get", ("k",)),
        ("setex", ("k", 60, "v")),
        ("set_if_not_exists", ("k", "v", 60)),
        ("scan_pattern", ("k*",)),
        ("ping", ()),
    ],
)
async def test_early_commands_start_the_client(
    method: str, arguments: tuple[Any, ...], redis_url: str, redis_prefix: str
) -> None:
    """The first use starts it, with a warning; the command runs."""
    client = RedisClient(client_id="c", redis_url=redis_url)
    if arguments:
        arguments = (redis_prefix + arguments[0], *arguments[1:])
    with capture_logs() as logs:
        await getattr(client, method)(*arguments)
    assert "warning" in {entry["log_level"] for entry in logs}
    assert client._started is True
    await client.stop()


@pytest.mark.contract("3.1-not-started-error")
@pytest.mark.parametrize(("method", "arguments"), OF_THE_CLIENT, ids=[name for name, _ in OF_THE_CLIENT])
async def test_what_is_not_running_says_so(method: str, arguments: tuple[Any, ...]) -> None:
    """The text of the error has the client's name, and nothing is connected."""
    client = RedisClient(client_id="c-1", redis_url="redis://nowhere.invalid:1")
    with pytest.raises(RuntimeError, match=r"Redis client 'c-1' is not running\."):
        await getattr(client, method)(*arguments)


@pytest.mark.contract("3.1-not-started-pubsub")
async def test_publish_subscribe_before_start() -> None:
    """Four methods say that publish/subscribe does not run yet."""
    client = RedisClient(client_id="c-1", redis_url="redis://nowhere.invalid:1")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        await client.publish("c", "m")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        async with client.subscribe("c"):
            pass
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        client.get_user_channel("u")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        await client.publish_user_notification("u", "e", {})


@pytest.mark.contract("3.1-ping")
async def test_ping_never_raises(redis_url: str) -> None:
    """True where the server answers, False where it cannot be reached."""
    there, away = RedisClient(client_id="c", redis_url=redis_url), RedisClient(client_id="c", redis_url=_nowhere())
    assert (await there.ping(), await away.ping()) == (True, False)
    await there.stop()
    await away.stop()


@pytest.mark.contract("3.1-driver-errors")
async def test_errors_of_the_driver_pass(redis_url: str, redis_prefix: str) -> None:
    """The server's refusal is the driver's exception, after an error line; so is a server that is away."""
    client = RedisClient(client_id="c", redis_url=redis_url)
    await client.setex(f"{redis_prefix}text", 60, "v")
    with capture_logs() as logs, pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.hget(f"{redis_prefix}text", "f")
    assert "error" in {entry["log_level"] for entry in logs}
    await client.stop()
    with pytest.raises(RedisConnectionError):
        await RedisClient(client_id="c", redis_url=_nowhere()).get("k")
