"""Pools, waiting commands, restarts of the server."""

import asyncio
import time

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import RedisServer

pytestmark = pytest.mark.integration


async def test_two_thousand_concurrent_commands_queue(client: RedisClient, redis_prefix: str) -> None:
    """More callers than connections wait for their turn; none fails."""
    await client.setex(f"{redis_prefix}k", 60, "v")
    replies = await asyncio.gather(*(client.get(f"{redis_prefix}k") for _ in range(2_000)))
    assert replies == ["v"] * 2_000


async def test_cancelled_commands_mix_up_no_replies(redis_url: str, redis_prefix: str) -> None:
    """A connection whose reply nobody read is not handed to the next caller."""
    async with RedisClient(
        client_id="hasty", redis_url=redis_url, config=RedisClientConfig(max_connections=4)
    ) as client:
        for number in range(50):
            await client.setex(f"{redis_prefix}{number}", 60, f"{number}")
        for _ in range(5):
            tasks = [asyncio.create_task(client.get(f"{redis_prefix}{number}")) for number in range(50)]
            await asyncio.sleep(0.001)
            for task in tasks[::2]:
                task.cancel()
            replies = await asyncio.gather(*tasks, return_exceptions=True)
            assert replies[1::2] == [f"{number}" for number in range(1, 50, 2)]
        assert await client.get(f"{redis_prefix}7") == "7"


async def test_a_full_pool_gives_up_after_the_wait_limit(redis_url: str) -> None:
    """A user of the raw client that gets no connection in time gets a ConnectionError; commands have their own."""
    config = RedisClientConfig(max_connections=1, pool_wait_s=0.1)
    async with RedisClient(client_id="narrow", redis_url=redis_url, config=config) as client:
        held = await client.client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        with pytest.raises(RedisConnectionError, match="No connection available"):
            await client.client.get("k")
        assert await client.get("k") is None
        await client.client.connection_pool.release(held)


async def test_blpop_takes_the_head_of_the_first_list_that_has_one(client: RedisClient, redis_prefix: str) -> None:
    """An item that is there comes at once, with its key."""
    await client.rpush(f"{redis_prefix}b", "1", "2")
    assert await client.blpop([f"{redis_prefix}a", f"{redis_prefix}b"], 5) == (f"{redis_prefix}b", "1")


async def test_blpop_waits_longer_than_the_socket_timeout(redis_url: str, redis_prefix: str) -> None:
    """Neither the socket time-out nor the slices of the wait end it early, and None comes on time."""
    config = RedisClientConfig(socket_timeout_s=0.2, blocking_slice_s=0.3)
    async with RedisClient(client_id="patient", redis_url=redis_url, config=config) as client:
        began = time.monotonic()
        assert await client.blpop([f"{redis_prefix}empty"], 0.8) is None
        assert 0.75 <= time.monotonic() - began < 15


async def test_blpop_without_timeout_waits_for_an_item(redis_url: str, redis_prefix: str) -> None:
    """0 waits for ever, across slices, and wakes with the item."""
    config = RedisClientConfig(blocking_slice_s=0.1)
    async with RedisClient(client_id="patient", redis_url=redis_url, config=config) as client:
        waiting = asyncio.create_task(client.blpop([f"{redis_prefix}q"]))
        done, _ = await asyncio.wait({waiting}, timeout=0.4)
        assert not done
        await client.lpush(f"{redis_prefix}q", "item")
        assert await asyncio.wait_for(waiting, 2) == (f"{redis_prefix}q", "item")


async def test_waiting_callers_do_not_starve_commands(redis_url: str, redis_prefix: str) -> None:
    """With more blocking pops and subscribers than pool connections, commands still run."""
    config = RedisClientConfig(max_connections=2, pool_wait_s=1)
    async with RedisClient(client_id="busy", redis_url=redis_url, config=config) as client:
        waiting = [asyncio.create_task(client.blpop([f"{redis_prefix}q"])) for _ in range(10)]
        async with client.subscribe(f"{redis_prefix}1"), client.subscribe(f"{redis_prefix}2"):
            assert await client.ping()
            assert await client.setex(f"{redis_prefix}k", 60, "v")
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_the_next_command_after_a_restart_connects_anew(
    client: RedisClient, redis_server: RedisServer, redis_prefix: str
) -> None:
    """Idle connections that the restart closed are replaced without an error; while it is down errors are raised."""
    await asyncio.gather(*(client.setex(f"{redis_prefix}{n}", 60, "v") for n in range(20)))
    try:
        await asyncio.to_thread(redis_server.stop)
    except NotOursError as error:
        pytest.skip(str(error))
    try:
        with pytest.raises(RedisConnectionError):
            await client.get(f"{redis_prefix}0")
        assert await client.ping() is False
    finally:
        await asyncio.to_thread(redis_server.start)
    assert await client.setex(f"{redis_prefix}again", 60, "v") is True


async def test_a_command_is_sent_once(redis_prefix: str) -> None:
    """A lost reply is raised, never repeated behind the caller's back."""
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while data := await reader.read(4096):
            if b"INCR" in data:
                seen += 1
                break  # executed, as it were, and the reply is lost
            writer.write(b"+PONG\r\n" if b"PING" in data else b"+OK\r\n" * data.count(b"*"))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = RedisClient(client_id="once", redis_url=f"redis://127.0.0.1:{port}?protocol=2")
    with pytest.raises(RedisConnectionError):
        await client.client.incr(f"{redis_prefix}n")
    assert seen == 1
    await client.stop()
    server.close()
    await server.wait_closed()
