"""Starting, stopping, and what happens before and after."""

import asyncio
import copy
import json
import pickle
import socket
import time
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka_client import (
    KafkaBus,
    KafkaBusConfig,
    KafkaBusStoppedError,
    KafkaUnreachableError,
    MessageTooLargeError,
)
from huleedu_service_libs.protocols import OutgoingMessage
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from ..topics import read_all


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _event() -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="test", data={})


def test_construction_needs_no_loop_and_no_broker() -> None:
    """Nothing is looked up or connected, and no producer is left unclosed."""
    with patch.object(socket, "getaddrinfo", side_effect=AssertionError("network")):
        bus = KafkaBus(client_id="lazy", bootstrap_servers="nowhere.invalid:1")
    assert (bus.client_id, bus.bootstrap_servers, bus._started) == ("lazy", "nowhere.invalid:1", False)


async def test_construction_inside_a_loop_does_no_io_either() -> None:
    """The same inside a running loop, as in the services' containers."""
    with patch.object(asyncio.get_running_loop(), "create_connection", side_effect=AssertionError("network")):
        bus = KafkaBus(client_id="lazy")
        producer = bus.producer
        assert producer is bus.producer
    await bus.stop()


def test_doubles_can_be_made_of_it() -> None:
    """`AsyncMock(spec=KafkaBus)` takes attributes, answers isinstance, and has a producer."""
    double = AsyncMock(spec=KafkaBus)
    double.client_id = "x"
    double.producer = AsyncMock()
    assert isinstance(double, KafkaBus)
    assert hasattr(KafkaBus, "producer")


async def test_a_producer_can_be_put_in() -> None:
    """A test sets the producer of a real bus."""
    bus = KafkaBus(client_id="x")
    bus.producer = AsyncMock()
    bus._started = True
    await bus.publish("t", _event(), key="k")
    call = bus.producer.send_and_wait.await_args
    assert call.args == ("t",)
    assert (call.kwargs["key"], call.kwargs["headers"]) == (b"k", None)


async def test_start_against_a_dead_port_fails_soon_and_names_it() -> None:
    """The error is the driver's connection error, names the address without a password, and comes within the bound."""
    port = _unused_port()
    config = KafkaBusConfig(start_timeout_s=2)
    bus = KafkaBus(client_id="dead", bootstrap_servers=f"127.0.0.1:{port}", config=config)
    began = time.monotonic()
    with capture_logs() as logs, pytest.raises(KafkaUnreachableError, match=f"127.0.0.1:{port}") as caught:
        await bus.start()
    assert time.monotonic() - began < 15
    assert isinstance(caught.value, KafkaConnectionError)
    assert [entry["log_level"] for entry in logs if entry["log_level"] == "error"] == ["error"]
    assert bus._started is False


async def test_a_bus_without_an_address_says_which_setting_is_empty() -> None:
    """The driver would look at port 9092 of nothing, and its error names neither the setting nor the fix."""
    with pytest.raises(KafkaUnreachableError, match=r"give bootstrap_servers \(KAFKA_BOOTSTRAP_SERVERS\) as host:port"):
        await KafkaBus(client_id="nowhere", bootstrap_servers="").start()


async def test_start_against_a_mute_server_is_bounded() -> None:
    """A server that accepts and never answers costs no more than the start time-out."""

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bus = KafkaBus(client_id="mute", bootstrap_servers=f"127.0.0.1:{port}", config=KafkaBusConfig(start_timeout_s=0.5))
    began = time.monotonic()
    with pytest.raises(KafkaUnreachableError, match=r"no answer within 0\.5 s"):
        await bus.start()
    assert time.monotonic() - began < 15
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0.05)


async def test_stop_is_safe_before_start() -> None:
    """Stopping what never ran does nothing."""
    bus = KafkaBus(client_id="never")
    await bus.stop()
    await bus.stop()


async def test_a_start_that_does_not_start_is_noticed() -> None:
    """When start() leaves the bus stopped, publishing raises RuntimeError."""
    bus = KafkaBus(client_id="patched")
    with patch.object(KafkaBus, "start", new_callable=AsyncMock), pytest.raises(RuntimeError, match="not running"):
        await bus.publish("t", _event())


@pytest.mark.integration
async def test_concurrent_starts_share_one(real_kafka: KafkaServer) -> None:
    """Twenty callers at once start one producer."""
    bus = KafkaBus(client_id="many", bootstrap_servers=real_kafka.address)
    with capture_logs() as logs:
        await asyncio.gather(*(bus.start() for _ in range(20)))
    assert [entry["event"] for entry in logs] == ["kafka_bus_started"]
    await bus.stop()


@pytest.mark.integration
async def test_first_use_starts_and_stop_is_final_until_start(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """Never started: started with a warning. Stopped: an error that names the topic. Started again: works again."""
    topic = kafka_topic()
    bus = KafkaBus(client_id="cycle", bootstrap_servers=real_kafka.address)
    with capture_logs() as logs:
        await asyncio.gather(*(bus.publish(topic, _event()) for _ in range(5)))
    assert len([entry for entry in logs if entry["event"] == "kafka_bus_started"]) == 1
    assert any(entry["log_level"] == "warning" for entry in logs)
    await bus.stop()
    assert bus._started is False
    with pytest.raises(KafkaBusStoppedError, match=topic) as caught:
        await bus.publish(topic, _event())
    assert isinstance(caught.value, RuntimeError)
    with pytest.raises(KafkaBusStoppedError):
        await bus.publish_batch([OutgoingMessage(topic=topic, value=b"{}")])
    await bus.start()
    await bus.publish(topic, _event())
    await bus.stop()
    assert len(await read_back(topic)) == 6


@pytest.mark.integration
async def test_stop_in_the_middle_of_a_batch_gives_outcomes(real_kafka: KafkaServer, kafka_topic: TopicFactory) -> None:
    """Messages that a stop overtakes come back as transient; no producer is built after it."""
    topic = kafka_topic()
    config = KafkaBusConfig(batch_size=1_000)
    bus = KafkaBus(client_id="overtaken", bootstrap_servers=real_kafka.address, config=config)
    await bus.start()
    messages = [OutgoingMessage(topic=topic, key=b"k", value=b"x" * 500) for _ in range(400)]
    send, sent = bus.producer.send_batch, asyncio.Event()

    async def tell(*args: Any, **options: Any) -> Any:
        sent.set()
        return await send(*args, **options)

    with patch.object(bus.producer, "send_batch", tell):
        task = asyncio.create_task(bus.publish_batch(messages))
        await sent.wait()
        await bus.stop()
    outcomes = await task
    acknowledged = [outcome.acknowledged for outcome in outcomes]
    assert acknowledged == sorted(acknowledged, reverse=True)
    assert not all(acknowledged)
    assert all(outcome.transient for outcome in outcomes if not outcome.acknowledged)
    assert bus._host._current is None


@pytest.mark.integration
async def test_a_producer_is_not_replaced_after_stop(real_kafka: KafkaServer) -> None:
    """A failure that is noticed after stop() builds nothing new."""
    bus = KafkaBus(client_id="late", bootstrap_servers=real_kafka.address)
    await bus.start()
    producer = bus.producer
    await bus.stop()
    await bus._host.replace(producer, reason="test")
    assert bus._host._current is None


@pytest.mark.integration
async def test_stop_swallows_errors(real_kafka: KafkaServer) -> None:
    """An error while stopping is logged and counted, and the bus is stopped all the same."""
    bus = KafkaBus(client_id="stubborn", bootstrap_servers=real_kafka.address)
    await bus.start()
    producer = bus.producer
    with (
        capture_logs() as logs,
        patch.object(producer, "flush"),
        patch.object(producer._sender, "close", side_effect=[OSError("boom"), None]),
    ):
        await bus.stop()
    assert bus._started is False
    assert any("boom" in str(entry.get("error")) for entry in logs)
    await producer._sender.close()


def test_errors_can_be_copied() -> None:
    """Errors with keyword arguments survive copy and pickle, as multiprocessing and log handlers need."""
    error = MessageTooLargeError("t", size=2, limit=1)
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301  # our own bytes
        assert (twin.topic, twin.size, twin.limit) == ("t", 2, 1)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"start_timeout_s": 0}, "start_timeout_s"),
        ({"linger_ms": -1}, "linger_ms"),
        ({"batch_size": 10, "max_request_size": 5}, "batch_size"),
        ({"publish_timeout_s": 1}, "publish_timeout_s"),
    ],
)
def test_config_names_what_is_wrong(settings: dict[str, Any], name: str) -> None:
    """A setting that makes no sense is refused with its name."""
    with pytest.raises(ValueError, match=name):
        KafkaBusConfig(**settings)


@pytest.mark.integration
async def test_ping_tells_whether_a_broker_answers(kafka_server: KafkaServer) -> None:
    """True on a started bus with a broker, False before the start and after the stop, never an error."""
    config = KafkaBusConfig(enable_idempotence=kafka_server.supports_idempotent_producer)
    bus = KafkaBus(client_id="ping", bootstrap_servers=kafka_server.address, config=config)
    assert not await bus.ping()
    await bus.start()
    assert await bus.ping()
    await bus.stop()
    assert not await bus.ping()


@pytest.mark.integration
async def test_idempotence_can_be_switched_off(kafka_bootstrap_servers: str, kafka_topic: TopicFactory) -> None:
    """For brokers that cannot: the producer asks for no id, messages still arrive, acknowledged by all replicas."""
    topic, event = kafka_topic("plain"), _event()
    config = KafkaBusConfig(enable_idempotence=False)
    async with KafkaBus(client_id="plain", bootstrap_servers=kafka_bootstrap_servers, config=config) as bus:
        await bus.publish(topic, event, "k")
        assert bus.producer._txn_manager is None
        assert bus.producer._sender._acks == -1
    (record,) = await read_all(kafka_bootstrap_servers, topic)
    assert (record.key, json.loads(record.value)["event_id"]) == (b"k", str(event.event_id))


@pytest.mark.integration
async def test_an_outage_is_waited_for_calmly(kafka_server: KafkaServer, kafka_topic: TopicFactory) -> None:
    """While the broker is stopped the driver pauses after every look-up, and goes on when it is back."""
    topic = kafka_topic("outage")
    pauses: list[float] = []
    several = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            several.set()
        await asyncio.sleep(seconds)

    config = KafkaBusConfig(enable_idempotence=kafka_server.supports_idempotent_producer)
    bus = KafkaBus(client_id="calm", bootstrap_servers=kafka_server.address, config=config, sleep=sleep)
    async with bus:
        await bus.publish(topic, _event(), "k")
        try:
            await asyncio.to_thread(kafka_server.stop)
        except NotOursError as error:
            pytest.skip(str(error))
        try:
            sending = asyncio.create_task(bus.publish(topic, _event(), "k"))
            await asyncio.wait_for(several.wait(), 25)
        finally:
            await asyncio.to_thread(kafka_server.start)
        await sending
    assert set(pauses) == {0.25}
