"""Starting, stopping, and what happens before and after."""

import asyncio
import socket
import time
from functools import partial
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig, RedisUnreachableError
from tests.contract.commands import OF_THE_CLIENT

needs_redis = pytest.mark.integration

AUTO: list[tuple[str, tuple[Any, ...]]] = [
    ("set_if_not_exists", ("{p}k", "v", 60)),
    ("get", ("{p}k",)),
    ("setex", ("{p}k", 60, "v")),
    ("scan_pattern", ("{p}none*",)),
    ("ping", ()),
]


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@needs_redis
@pytest.mark.parametrize(("name", "arguments"), AUTO, ids=[name for name, _ in AUTO])
async def test_early_commands_start_the_client(
    name: str, arguments: tuple[Any, ...], redis_url: str, redis_prefix: str
) -> None:
    """Commands that services use before `start` start the client and say so once."""
    client = RedisClient(client_id="early", redis_url=redis_url)
    real = [a.replace("{p}", redis_prefix) if isinstance(a, str) else a for a in arguments]
    with capture_logs() as logs:
        await getattr(client, name)(*real)
    assert client._started
    assert [entry["operation"] for entry in logs if entry["log_level"] == "warning"] == [name]
    await client.stop()


@pytest.mark.parametrize(("name", "arguments"), OF_THE_CLIENT, ids=[name for name, _ in OF_THE_CLIENT])
async def test_other_commands_need_a_started_client(name: str, arguments: tuple[Any, ...]) -> None:
    """All other commands raise RuntimeError in the text that services match."""
    client = RedisClient(client_id="cold")
    with pytest.raises(RuntimeError, match=r"^Redis client 'cold' is not running\.$"):
        await getattr(client, name)(*arguments)


@pytest.mark.parametrize(
    ("name", "arguments"), [("publish", ("c", "m")), ("publish_user_notification", ("u", "e", {}))]
)
async def test_publishing_needs_a_started_client(name: str, arguments: tuple[Any, ...]) -> None:
    """Publishing before `start` says that publish/subscribe is missing."""
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        await getattr(RedisClient(client_id="cold"), name)(*arguments)


def test_channels_need_a_started_client() -> None:
    """So do the two synchronous members, without an event loop."""
    client = RedisClient(client_id="cold")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        client.subscribe("c")
    with pytest.raises(RuntimeError, match="PubSub not initialized"):
        client.get_user_channel("u")


@needs_redis
async def test_start_and_stop_are_idempotent_and_repeatable(redis_url: str) -> None:
    """Started twice, stopped twice, started again: each call leaves the promised state."""
    client = RedisClient(client_id="twice", redis_url=redis_url)
    await client.stop()
    for _ in range(2):
        await client.start()
        first = client.pubsub
        await client.start()
        assert client._started is True
        assert client.pubsub is first is not None
        assert await client.ping()
        await client.stop()
        await client.stop()
        assert client.pubsub is None


@needs_redis
@pytest.mark.parametrize(("name", "arguments"), AUTO, ids=[name for name, _ in AUTO])
async def test_early_commands_start_a_stopped_client_too(
    name: str, arguments: tuple[Any, ...], redis_url: str, redis_prefix: str
) -> None:
    """The contract knows one state, not started, before the start and after the stop."""
    client = RedisClient(client_id="again", redis_url=redis_url)
    await client.start()
    await client.stop()
    real = [a.replace("{p}", redis_prefix) if isinstance(a, str) else a for a in arguments]
    with capture_logs() as logs:
        await getattr(client, name)(*real)
    assert [entry["operation"] for entry in logs if entry["log_level"] == "warning"] == [name]
    await client.stop()


async def test_stop_is_bounded_and_closes_what_it_can() -> None:
    """A pool that hangs while closing is given up, logged and counted; the others are closed all the same."""
    client = RedisClient(client_id="hanging", config=RedisClientConfig(stop_timeout_s=0.5))
    closed: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    for name in ("subscriptions", "blocking", "transactions", "commands"):
        driver = getattr(client._connections, name)
        driver.aclose = hang if name == "subscriptions" else partial(_note, closed, name)
    labels = {"client_id": "hanging", "operation": "stop"}
    with capture_logs() as logs:
        await asyncio.wait_for(client.stop(), 15)
    assert closed == ["blocking", "transactions", "commands"]
    assert [entry["error"] for entry in logs] == ["TimeoutError: connections not closed within 0.5 s"]
    assert REGISTRY.get_sample_value("huleedu_redis_client_swallowed_errors_total", labels) == 1


async def _note(closed: list[str], name: str) -> None:
    closed.append(name)


async def test_the_first_error_of_closing_is_swallowed() -> None:
    """An error of one pool is logged, and the other three are closed."""
    client = RedisClient(client_id="breaking")
    closed: list[str] = []

    async def fail() -> None:
        raise OSError("broken pipe")

    for name in ("subscriptions", "blocking", "transactions", "commands"):
        driver = getattr(client._connections, name)
        driver.aclose = fail if name == "blocking" else partial(_note, closed, name)
    with capture_logs() as logs:
        await client.stop()
    assert len(closed) == 3
    assert [entry["error"] for entry in logs] == ["OSError: broken pipe"]


@needs_redis
async def test_concurrent_starts_share_one(redis_url: str) -> None:
    """Twenty callers at once start the client once."""
    client = RedisClient(client_id="many", redis_url=redis_url)
    with capture_logs() as logs:
        await asyncio.gather(*(client.start() for _ in range(20)))
    assert [entry["event"] for entry in logs] == ["redis_client_started"]
    await client.stop()


async def test_start_against_a_dead_port_fails_soon_and_keeps_the_password() -> None:
    """The error names the address, comes within the bound, and shows no password anywhere."""
    url = f"redis://svc:hemligt@ord@127.0.0.1:{_unused_port()}/0"
    client = RedisClient(client_id="dead", redis_url=url, config=RedisClientConfig(start_timeout_s=2))
    began = time.monotonic()
    with capture_logs() as logs, pytest.raises(RedisUnreachableError) as caught:
        await client.start()
    assert time.monotonic() - began < 15
    assert isinstance(caught.value, RedisConnectionError)
    assert "127.0.0.1" in str(caught.value)
    seen = f"{caught.value!r} {caught.value} {logs} {client!r}"
    assert "hemligt" not in seen
    assert "ord@" not in seen
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert client._started is False
    await client.stop()


async def test_start_against_a_mute_server_is_bounded() -> None:
    """A server that accepts and never answers costs no more than the start time-out."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)  # until the client hangs up
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RedisClient(
        client_id="mute",
        redis_url=f"redis://127.0.0.1:{port}",
        config=RedisClientConfig(start_timeout_s=0.3),
    )
    began = time.monotonic()
    with pytest.raises(RedisUnreachableError, match=r"no answer within 0\.3 s"):
        await client.start()
    assert time.monotonic() - began < 15
    await client.stop()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.01)


async def test_ping_reports_a_dead_server_as_false() -> None:
    """`ping` answers False instead of raising, also when it would have to start the client."""
    client = RedisClient(client_id="dead", redis_url=f"redis://127.0.0.1:{_unused_port()}")
    assert await client.ping() is False


def test_construction_needs_no_loop_and_no_server() -> None:
    """Nothing connects before the first command."""
    client = RedisClient(client_id="lazy", redis_url="redis://nowhere.invalid:1/0")
    assert (client.client_id, client.redis_url) == ("lazy", "redis://nowhere.invalid:1/0")
    assert client._started is False
    assert client.pubsub is None


@needs_redis
async def test_driver_errors_pass_unchanged_after_one_log_line(client: RedisClient, redis_prefix: str) -> None:
    """The driver's own error reaches the caller; the log says which command, not which value."""
    await client.setex(f"{redis_prefix}text", 60, "x")
    with capture_logs() as logs, pytest.raises(ResponseError, match="WRONGTYPE"):
        await client.rpush(f"{redis_prefix}text", "hemlig")
    assert [(entry["log_level"], entry["operation"]) for entry in logs] == [("error", "rpush")]
    assert "hemlig" not in str(logs)


def test_config_names_what_is_wrong() -> None:
    """A setting that makes no sense is refused with its name."""
    with pytest.raises(ValueError, match="socket_timeout_s must be positive"):
        RedisClientConfig(socket_timeout_s=0)
