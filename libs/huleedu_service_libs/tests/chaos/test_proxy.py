"""The proxy does to the network what it says, and nothing else."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from time import monotonic

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from redis.asyncio import Redis

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.chaos.kafka_proxies import kafka_proxies
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import KafkaServer

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(name="proxy")
async def _proxy() -> AsyncIterator[FaultProxy]:
    """A proxy before a server that answers each line with the line in capitals."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy(f"127.0.0.1:{port}") as proxy:
        yield proxy
    server.close()


async def _connect(proxy: FaultProxy) -> Streams:
    host, _, port = proxy.address.partition(":")
    return await asyncio.open_connection(host, int(port))


async def _ask(streams: Streams, line: bytes = b"hello\n", limit: float = 5.0) -> bytes:
    reader, writer = streams
    writer.write(line)
    async with asyncio.timeout(limit):
        return await reader.readline()


async def test_without_a_fault_everything_passes(proxy: FaultProxy) -> None:
    """Bytes go both ways; a second start and a second stop do nothing."""
    await proxy.start()
    streams = await _connect(proxy)
    assert await _ask(streams) == b"HELLO\n"
    assert (proxy.connections, proxy.open_connections) == (1, 1)
    await proxy.stop()
    await proxy.stop()
    assert proxy.open_connections == 0
    streams[1].close()


async def test_a_cut_ends_connections_and_lets_new_ones_in(proxy: FaultProxy) -> None:
    """Every connection is reset at once; the next one works."""
    streams = await _connect(proxy)
    await _ask(streams)
    assert proxy.cut() == 1
    with pytest.raises(ConnectionError):
        await _ask(streams)
    streams[1].close()
    again = await _connect(proxy)
    assert await _ask(again) == b"HELLO\n"
    again[1].close()


async def test_refusing_lasts_until_healed(proxy: FaultProxy) -> None:
    """New connections are reset, too, until the network heals."""
    proxy.refuse()
    streams = await _connect(proxy)
    with suppress(ConnectionError):  # reset, or reported as an end
        assert await _ask(streams) == b""
    streams[1].close()
    proxy.heal()
    again = await _connect(proxy)
    assert await _ask(again) == b"HELLO\n"
    again[1].close()


async def test_silence_is_not_noticed_and_loses_nothing(proxy: FaultProxy) -> None:
    """No answer comes and no connection ends; what was held up arrives after healing."""
    streams = await _connect(proxy)
    proxy.silence()
    with pytest.raises(TimeoutError):
        await _ask(streams, b"held\n", limit=0.3)
    proxy.heal()
    async with asyncio.timeout(5.0):
        assert await streams[0].readline() == b"HELD\n"
    streams[1].close()


@pytest.mark.parametrize("fault", ["delay", "throttle"])
async def test_slow_networks_deliver_late(proxy: FaultProxy, fault: str) -> None:
    """A delay counts once for each direction; a throttled connection takes size by rate."""
    streams = await _connect(proxy)
    if fault == "delay":
        proxy.delay(0.15)
    else:
        proxy.throttle(40.0)  # six bytes each way
    before = monotonic()
    assert await _ask(streams) == b"HELLO\n"
    assert monotonic() - before >= 0.29
    streams[1].close()


async def test_a_chosen_reply_is_lost_in_part_and_the_connection_with_it(proxy: FaultProxy) -> None:
    """The second matching request is done but answered in part only; later connections are answered."""
    proxy.lose_replies(to=b"set", skip=1, after_bytes=2)
    streams = await _connect(proxy)
    assert await _ask(streams, b"set one\n") == b"SET ONE\n"
    assert await _ask(streams, b"get one\n") == b"GET ONE\n"
    assert await _ask(streams, b"set two\n") == b"SE"
    assert proxy.lost_replies == 1
    again = await _connect(proxy)
    assert await _ask(again, b"set two\n") == b"SET TWO\n"
    again[1].close()
    streams[1].close()


async def test_a_lost_reply_may_leave_the_client_hanging(proxy: FaultProxy) -> None:
    """With ``hang`` the connection stays open and silent."""
    proxy.lose_replies(hang=True)
    streams = await _connect(proxy)
    with pytest.raises(TimeoutError):
        await _ask(streams, limit=0.3)
    assert (proxy.lost_replies, proxy.open_connections) == (1, 1)
    streams[1].close()


async def test_a_dead_server_ends_the_clients_connection() -> None:
    """Where nobody listens behind the proxy, the client sees the end, as with the server itself."""
    async with FaultProxy("127.0.0.1:1") as proxy:
        reader, writer = await _connect(proxy)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_what_is_wrong_is_said() -> None:
    """Targets without a port, rewrites that change the length and addresses before the start have clear errors."""
    with pytest.raises(ValueError, match="names no host and port"):
        FaultProxy("localhost")
    with pytest.raises(ValueError, match="same length"):
        FaultProxy("localhost:1", rewrite={b"a": b"bc"})
    with pytest.raises(RuntimeError, match="await start"):
        _ = FaultProxy("localhost:1").address
    with pytest.raises(ValueError, match="must be positive"):
        FaultProxy("localhost:1").throttle(0)


@pytest.mark.integration
async def test_a_redis_command_whose_reply_is_lost_was_done(redis_url: str, redis_prefix: str) -> None:
    """The key is ours although its reply was lost: our client looks and says so, a driver that repeats says it is not."""
    async with FaultProxy(redis_url) as proxy:
        assert proxy.url == f"redis://{proxy.address}/0"
        client = RedisClient(client_id="proxy", redis_url=proxy.url)
        await client.start()
        proxy.lose_replies(to=b"\r\nSET\r\n")
        assert await client.set_if_not_exists(f"{redis_prefix}one", "mine", ttl_seconds=60)
        assert proxy.lost_replies == 1
        assert await client.get(f"{redis_prefix}one") == "mine"
        await client.stop()
        proxy.lose_replies(to=b"\r\nSET\r\n")
        host, _, port = proxy.address.partition(":")
        async with Redis(host=host, port=int(port), decode_responses=True) as driver:
            assert not await driver.set(f"{redis_prefix}two", "mine", nx=True, ex=60)
            assert await driver.get(f"{redis_prefix}two") == "mine"
        assert proxy.lost_replies == 2


@pytest.mark.integration
async def test_a_kafka_client_stays_behind_the_proxies(
    kafka_server: KafkaServer, kafka_topic: Callable[..., str]
) -> None:
    """Producer and consumer reach the cluster through the proxies alone, also after a cut."""
    topic = kafka_topic("proxied")
    proxies = await kafka_proxies(kafka_server.address)
    address = ",".join(proxy.address for proxy in proxies)
    async with AIOKafkaProducer(bootstrap_servers=address) as producer:
        known = {node.port for node in producer.client.cluster.brokers()}
        assert known == {int(proxy.address.rpartition(":")[2]) for proxy in proxies}
        await producer.send_and_wait(topic, b"one")
        assert sum(proxy.cut() for proxy in proxies) > 0
        await producer.send_and_wait(topic, b"two")
    async with AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        assert [(await consumer.getone()).value for _ in range(2)] == [b"one", b"two"]
    for proxy in proxies:
        await proxy.stop()
