"""Section 2.1: `KafkaBus`. What it is made of, its life, and what a broker gets."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError, NotLeaderForPartitionError
from pydantic import BaseModel
from structlog.testing import capture_logs

import huleedu_service_libs
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import kafka_client, protocols
from huleedu_service_libs.kafka import fallback_handler, resilient_kafka_bus
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[2.1-signatures]
class kafka_client:KafkaBus(*, client_id, bootstrap_servers=...)
async kafka_client:KafkaBus.start()
async kafka_client:KafkaBus.stop()
async kafka_client:KafkaBus.publish(topic, envelope, key=None, headers=None)
"""


@pytest.mark.parametrize("wanted", lines("02 Kafka bus", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _event(**data: Any) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="svc", data=data)


def _bus_with(producer: Any) -> KafkaBus:
    """A started bus whose producer is a double."""
    bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere.invalid:1")
    bus.producer = producer
    bus._started = True
    return bus


# What it is made of


@pytest.mark.contract("2.1-bootstrap-constant")
@pytest.mark.parametrize(("value", "found"), [(None, "kafka:9092"), ("a:1,b:2", "a:1,b:2")])
def test_servers_come_from_the_environment(value: str | None, found: str) -> None:
    """Read when the module is imported; without a value it is the compose file's name."""
    env = {k: v for k, v in os.environ.items() if k != "KAFKA_BOOTSTRAP_SERVERS"}
    env |= {"KAFKA_BOOTSTRAP_SERVERS": value} if value else {}
    code = "from huleedu_service_libs import kafka_client as k; b = k.KafkaBus(client_id='c'); print(k.KAFKA_BOOTSTRAP_SERVERS, b.bootstrap_servers)"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == [found, found]


@pytest.mark.contract("2.1-payload-typevar")
def test_the_type_of_payloads() -> None:
    """One type variable of models, wherever it is imported from."""
    homes = (kafka_client, protocols, resilient_kafka_bus, fallback_handler)
    assert [home.T_EventPayload.__bound__ for home in homes] == [BaseModel] * 4


@pytest.mark.contract("2.1-root-export")
def test_the_root_has_the_bus() -> None:
    """The package root leads to the same class."""
    assert huleedu_service_libs.KafkaBus is KafkaBus


@pytest.mark.contract("2.1-attributes")
def test_a_bus_has_what_it_was_given() -> None:
    """Client id and addresses can be read; nothing is connected by construction."""
    bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere:1")
    assert (bus.client_id, bus.bootstrap_servers, bus._started) == ("svc", "nowhere:1", False)
    assert KafkaBus(client_id="svc").bootstrap_servers == kafka_client.KAFKA_BOOTSTRAP_SERVERS
    with pytest.raises(TypeError):
        KafkaBus("svc")  # type: ignore[call-arg]


@pytest.mark.contract("2.1-no-io")
async def test_construction_touches_no_network() -> None:
    """No name is looked up and no connection opened, with an event loop and without one."""
    refuse = AssertionError("the network was touched")
    loop = asyncio.get_running_loop()
    with (
        patch.object(socket, "getaddrinfo", side_effect=refuse),
        patch.object(loop, "create_connection", side_effect=refuse),
    ):
        KafkaBus(client_id="svc", bootstrap_servers="nowhere.invalid:1")
        await asyncio.to_thread(KafkaBus, client_id="svc", bootstrap_servers="nowhere.invalid:1")


@pytest.mark.contract("2.1-producer-settings")
async def test_the_producer_is_aiokafkas_and_idempotent() -> None:
    """All in-sync replicas must acknowledge, and what is sent again is not written twice."""
    with patch.object(AIOKafkaProducer, "__init__", autospec=True, side_effect=AIOKafkaProducer.__init__) as made:
        bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere.invalid:1")
        producer = bus.producer
    assert isinstance(producer, AIOKafkaProducer)
    assert made.call_args.kwargs["acks"] == "all"
    assert made.call_args.kwargs["enable_idempotence"] is True
    await bus.stop()


@pytest.mark.contract("2.1-isinstance")
def test_a_wrapper_is_no_bus() -> None:
    """Services tell by `isinstance` whether they got the bus or the resilient wrapper."""
    bus = KafkaBus(client_id="svc")
    assert isinstance(bus, KafkaBus)
    assert not isinstance(ResilientKafkaPublisher(bus), KafkaBus)


@pytest.mark.contract("2.1-patch-start-stop")
async def test_start_and_stop_of_the_class_can_be_patched() -> None:
    """Tests of dependency injection patch both on the class and run the real constructor."""
    with (
        patch.object(KafkaBus, "start", new_callable=AsyncMock) as start,
        patch.object(KafkaBus, "stop", new_callable=AsyncMock) as stop,
    ):
        publisher = ResilientKafkaPublisher(KafkaBus(client_id="svc"))
        await publisher.start()
        await publisher.stop()
    start.assert_awaited_once_with()
    stop.assert_awaited_once_with()


@pytest.mark.contract("2.1-spec-double")
async def test_a_double_of_the_bus() -> None:
    """Attributes are set by hand afterwards; its methods and its producer's `send` are awaited."""
    double = AsyncMock(spec=KafkaBus)
    double.client_id, double.bootstrap_servers, double.producer = "c", "b:1", AsyncMock()
    await double.producer.send(topic="dlq", key=None, value="{}", headers={})
    await double.publish("t", _event(), "k", None)
    await double.start()
    await double.stop()
    assert isinstance(double, KafkaBus)
    assert (ResilientKafkaPublisher(double).client_id, double.publish.await_count) == ("c", 1)


# Its life


@pytest.mark.contract("2.1-start-refused")
async def test_a_broker_that_cannot_be_reached() -> None:
    """The driver's error is logged and reaches the caller, and the bus is not started."""
    bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere.invalid:1")
    with (
        patch.object(AIOKafkaProducer, "start", AsyncMock(side_effect=KafkaConnectionError("away"))),
        capture_logs() as logs,
        pytest.raises(KafkaConnectionError, match="away"),
    ):
        await bus.start()
    assert "error" in {entry["log_level"] for entry in logs}
    assert bus._started is False


@pytest.mark.contract("2.1-stop-always")
async def test_stop_stops_a_producer_that_never_started() -> None:
    """The attempt is made whether or not `start` was called."""
    bus = KafkaBus(client_id="svc")
    bus.producer = producer = AsyncMock()
    bus._started = False
    await bus.stop()
    producer.stop.assert_awaited_once_with()


@pytest.mark.contract("2.1-stop-swallows")
async def test_an_error_while_stopping_is_swallowed() -> None:
    """It is logged; the bus counts as stopped."""
    bus = _bus_with(SimpleNamespace(stop=AsyncMock(side_effect=RuntimeError("stuck"))))
    with capture_logs() as logs:
        await bus.stop()
    assert any(entry["log_level"] == "error" and "stuck" in str(entry) for entry in logs)
    assert bus._started is False


@pytest.mark.contract("2.1-publish-not-running")
async def test_a_bus_that_does_not_start_publishes_nothing() -> None:
    """When `start` leaves it stopped, as a patched one does, publishing is a RuntimeError."""
    bus = KafkaBus(client_id="svc")
    with patch.object(KafkaBus, "start", new_callable=AsyncMock) as start, pytest.raises(RuntimeError):
        await bus.publish("t", _event())
    start.assert_awaited_once_with()


@pytest.mark.contract("2.1-publish-errors")
@pytest.mark.parametrize(
    "error",
    [TimeoutError("late"), KafkaTimeoutError("late"), NotLeaderForPartitionError("moved"), ValueError("odd")],
    ids=lambda error: type(error).__name__,
)
async def test_errors_reach_the_caller_unchanged(error: Exception) -> None:
    """The very exception of the driver, after a line in the log."""
    fails = AsyncMock(side_effect=error)
    bus = _bus_with(SimpleNamespace(send=fails, send_and_wait=fails))
    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        await bus.publish("t", _event())
    assert caught.value is error
    assert "error" in {entry["log_level"] for entry in logs}


# What a broker gets


@pytest.fixture(name="bus")
async def _bus(real_kafka: Any) -> AsyncIterator[KafkaBus]:
    bus = KafkaBus(client_id="contract", bootstrap_servers=real_kafka.address)
    await bus.start()
    yield bus
    await bus.stop()


async def _read(address: str, topic: str) -> list[Any]:
    """What one partition holds, in order."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        (partition,) = consumer.assignment()
        end = (await consumer.end_offsets([partition]))[partition]
        found: list[Any] = []
        while await consumer.position(partition) < end:
            found += (await consumer.getmany(partition, timeout_ms=200)).get(partition, [])
        return found
    finally:
        await consumer.stop()


@pytest.mark.contract("2.1-publish-body", "2.1-publish-key", "2.1-publish-headers", "2.1-publish-waits")
async def test_what_is_on_the_wire(bus: KafkaBus, kafka_topic: Any) -> None:
    """After `publish` the broker has the envelope's dump as JSON, the key and the headers as UTF-8, and no more."""
    topic, event = kafka_topic(), _event(text="räksmörgås")
    await bus.publish(topic, event, key="nyckel-å", headers={"event_type": "essay.v1", "namn": "Åsa"})
    await bus.publish(topic, event, key="", headers={})
    await bus.publish(topic, event)
    full, empty, absent = await _read(bus.bootstrap_servers, topic)
    assert [json.loads(record.value.decode("utf-8")) for record in (full, empty, absent)] == [
        event.model_dump(mode="json")
    ] * 3
    assert (full.key, empty.key, absent.key) == ("nyckel-å".encode(), None, None)
    assert full.headers == (("event_type", b"essay.v1"), ("namn", "Åsa".encode()))
    assert (empty.headers, absent.headers) == ((), ())


@pytest.mark.contract("2.1-publish-waits")
async def test_publish_does_not_return_before_the_acknowledgement() -> None:
    """While the producer waits for the broker, so does the caller."""
    acknowledged = asyncio.Event()

    async def send_and_wait(*_args: Any, **_keywords: Any) -> None:
        await acknowledged.wait()

    async def send(*_args: Any, **_keywords: Any) -> Any:
        return asyncio.ensure_future(acknowledged.wait())

    bus = _bus_with(SimpleNamespace(send=send, send_and_wait=send_and_wait))
    task = asyncio.create_task(bus.publish("t", _event()))
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    acknowledged.set()
    await asyncio.wait_for(task, 10)


@pytest.mark.contract("2.1-producer-dead-letters", "2.1-value-serializer")
async def test_dead_letters_go_through_the_producer(bus: KafkaBus, kafka_topic: Any) -> None:
    """Text keys or none; a body that is JSON text already is sent as it is, anything else as its JSON."""
    topic = kafka_topic()
    for key in ("nyckel", None):
        await (await bus.producer.send(topic=topic, key=key, value='{"fel": "å"}', headers={}))
    await bus.producer.send_and_wait(topic, {"n": [1, "å"]})
    first, second, third = await _read(bus.bootstrap_servers, topic)
    assert (first.key, second.key) == (b"nyckel", None)
    assert first.value == second.value == '{"fel": "å"}'.encode()
    assert json.loads(third.value.decode("utf-8")) == {"n": [1, "å"]}


@pytest.mark.contract("2.1-start-once", "2.1-started-flag", "2.1-publish-starts")
async def test_the_life_of_a_bus(real_kafka: Any, kafka_topic: Any) -> None:
    """Publishing starts it, with a warning; starting again does nothing; the flag follows."""
    topic = kafka_topic()
    bus = KafkaBus(client_id="contract", bootstrap_servers=real_kafka.address)
    flags = [bus._started]
    with capture_logs() as logs:
        await bus.publish(topic, _event())
    assert "warning" in {entry["log_level"] for entry in logs}
    flags.append(bus._started)
    producer = bus.producer
    with patch.object(AIOKafkaProducer, "start", AsyncMock()) as start:
        await bus.start()
    start.assert_not_awaited()
    assert bus.producer is producer
    await bus.stop()
    assert [*flags, bus._started] == [False, True, False]
