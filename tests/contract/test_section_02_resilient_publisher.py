"""Section 2.2: `ResilientKafkaPublisher`. A bus behind a breaker, and what waits while it is open."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, call, patch

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError

from common_core.events.envelope import EventEnvelope
from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs import kafka
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerRegistry
from tests.contract.relaying import until
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[2.2-signatures]
class kafka.resilient_kafka_bus:ResilientKafkaPublisher(delegate, circuit_breaker=None, fallback_handler=None, retry_interval=...)
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.start()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.stop()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.publish(topic, envelope, key=None, headers=None)
def kafka.resilient_kafka_bus:ResilientKafkaPublisher.get_circuit_breaker_state()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher._process_queued_messages()
[2.2-queue-size]
def kafka.resilient_kafka_bus:ResilientKafkaPublisher.get_fallback_queue_size()
"""


@pytest.mark.parametrize("wanted", lines("02 resilient publisher", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _event(number: int = 0) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="svc", data={"n": number})


def _double(error: BaseException | None = None) -> Any:
    bus = AsyncMock(spec=KafkaBus)
    bus.client_id, bus.bootstrap_servers = "svc", "b:1"
    bus.publish.side_effect = error
    return bus


def _open_breaker() -> CircuitBreaker:
    breaker = CircuitBreaker(failure_threshold=1, recovery_timeout=timedelta(hours=1), name="b")
    breaker.state = CircuitBreakerState.OPEN
    breaker.last_failure_time = datetime.now(UTC)
    return breaker


@pytest.mark.contract("2.2-package-exports")
def test_the_package_exports_both() -> None:
    """Publisher and queue can be imported from the package."""
    assert kafka.ResilientKafkaPublisher is ResilientKafkaPublisher
    assert kafka.FallbackMessageHandler is FallbackMessageHandler


@pytest.mark.contract("2.2-attributes", "2.2-names-of-the-delegate", "2.2-signatures")
def test_attributes_of_the_resilient_publisher() -> None:
    """A wrapper and no bus, with a queue of a thousand, half a minute between looks, and the delegate's names."""
    bus, breaker, queue = (
        KafkaBus(client_id="svc", bootstrap_servers="b:1"),
        CircuitBreaker(),
        FallbackMessageHandler(2),
    )
    publisher = ResilientKafkaPublisher(bus, breaker)
    assert KafkaBus not in type(publisher).__mro__
    assert (publisher.delegate, publisher.circuit_breaker) == (bus, breaker)
    assert (publisher.client_id, publisher.bootstrap_servers) == ("svc", "b:1")
    assert (publisher.retry_interval, publisher.fallback_handler.get_metrics()["max_queue_size"]) == (30, 1000)
    given = ResilientKafkaPublisher(delegate=bus, circuit_breaker=None, fallback_handler=queue, retry_interval=7)
    assert (given.fallback_handler is queue, given.retry_interval, given.circuit_breaker) == (True, 7, None)


@pytest.mark.contract("2.2-state")
def test_the_state_for_health_checks() -> None:
    """One key without a breaker; with one its own state and two keys more."""
    breaker = CircuitBreaker(name="b")
    assert ResilientKafkaPublisher(_double()).get_circuit_breaker_state() == {"enabled": False}
    found = ResilientKafkaPublisher(_double(), breaker).get_circuit_breaker_state()
    assert found == {**breaker.get_state(), "enabled": True, "fallback_queue_size": 0}


# Its life


@pytest.mark.contract("2.2-start", "2.2-stop")
@pytest.mark.parametrize(("breaker", "tasks"), [(None, 0), (CircuitBreaker(name="b"), 1)])
async def test_start_and_stop(breaker: CircuitBreaker | None, tasks: int) -> None:
    """The delegate is started and stopped once; a breaker brings one task, which is gone before the delegate stops."""
    bus, before, left = _double(), asyncio.all_tasks(), list[int]()
    bus.stop.side_effect = lambda: left.append(len(asyncio.all_tasks() - before))
    publisher = ResilientKafkaPublisher(bus, breaker)
    await publisher.start()
    assert len(asyncio.all_tasks() - before) == tasks
    bus.start.assert_awaited_once_with()
    async with asyncio.timeout(20):
        await publisher.stop()
    bus.stop.assert_awaited_once_with()
    assert left == [0]


@pytest.mark.contract("2.2-stop-bounded")
async def test_a_drain_that_hangs() -> None:
    """The broker takes what waits and never answers: the publisher stops all the same, and stops its delegate."""
    bus, breaker, begun = _double(), _open_breaker(), asyncio.Event()
    publisher = ResilientKafkaPublisher(bus, breaker)
    publisher.retry_interval = 0.05
    await publisher.publish("t", _event())

    async def hang(*_args: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    bus.publish.side_effect = hang
    breaker.reset()
    await publisher.start()
    async with asyncio.timeout(60):
        await begun.wait()
        await publisher.stop()
    bus.stop.assert_awaited_once_with()


# Publishing


@pytest.mark.contract("2.2-four-arguments")
async def test_four_arguments_go_to_the_delegate() -> None:
    """Topic, envelope, key and headers by position, the last None when it is absent."""
    bus, event = _double(), _event()
    publisher = ResilientKafkaPublisher(bus)
    await publisher.publish("t", event, "k")
    await publisher.publish(topic="t", envelope=event, headers={"h": "v"})
    assert bus.publish.call_args_list == [call("t", event, "k", None), call("t", event, None, {"h": "v"})]


@pytest.mark.contract("2.2-through-the-breaker")
async def test_the_call_goes_through_the_breaker() -> None:
    """The breaker is given the delegate's method and the same four arguments, and the delegate gets them."""
    bus, event, breaker = _double(), _event(), CircuitBreaker(name="b")
    with patch.object(breaker, "call", wraps=breaker.call) as through:
        await ResilientKafkaPublisher(bus, breaker).publish("t", event, "k")
    through.assert_called_once_with(bus.publish, "t", event, "k", None)
    bus.publish.assert_called_once_with("t", event, "k", None)


@pytest.mark.contract("2.2-open-queues", "2.2-queue-size")
async def test_an_open_breaker_queues() -> None:
    """The caller notices nothing, and the delegate is left alone; the message waits with all it was given."""
    bus, event = _double(), _event()
    publisher = ResilientKafkaPublisher(bus, _open_breaker())
    await publisher.publish("t", event, "k", {"h": "v"})
    bus.publish.assert_not_called()
    assert publisher.get_fallback_queue_size() == 1
    assert publisher.get_circuit_breaker_state()["fallback_queue_size"] == 1
    waits = await publisher.fallback_handler.get_next_message()
    assert waits is not None
    assert (waits.topic, waits.envelope, waits.key, waits.headers, waits.retry_count) == (
        "t",
        event,
        "k",
        {"h": "v"},
        0,
    )
    assert waits.queued_at.utcoffset() is not None


@pytest.mark.contract("2.2-failure-queues")
@pytest.mark.parametrize("error", [KafkaConnectionError("away"), ValueError("odd"), TimeoutError()], ids=repr)
async def test_a_failure_is_raised_and_queued(error: Exception) -> None:
    """Whatever the delegate raises reaches the caller as it is, and the message waits."""
    publisher = ResilientKafkaPublisher(_double(error), CircuitBreaker(failure_threshold=9, name="b"))
    with pytest.raises(type(error)) as caught:
        await publisher.publish("t", _event())
    assert caught.value is error
    assert publisher.get_fallback_queue_size() == 1


@pytest.mark.contract("2.2-threshold")
@pytest.mark.parametrize("key", [None, "same"])
async def test_the_threshold_opens_the_breaker(key: str | None) -> None:
    """Each of the failures is raised; the queue then holds them all, and the breaker is open."""
    breaker = CircuitBreaker(failure_threshold=3, expected_exception=KafkaError, name="b")
    publisher = ResilientKafkaPublisher(_double(KafkaConnectionError("away")), breaker)
    for number in range(3):
        with pytest.raises(KafkaConnectionError):
            await publisher.publish("t", _event(number), key)
    assert (publisher.get_fallback_queue_size(), breaker.state) == (3, CircuitBreakerState.OPEN)


@pytest.mark.contract("2.2-queue-full")
async def test_a_full_queue_is_told() -> None:
    """With nowhere to keep a message the caller learns of it."""
    publisher = ResilientKafkaPublisher(_double(), _open_breaker(), FallbackMessageHandler(max_queue_size=1))
    await publisher.publish("t", _event())
    with pytest.raises(Exception, match="Fallback queue is full"):
        await publisher.publish("t", _event())
    assert publisher.get_fallback_queue_size() == 1


# What waits


@pytest.mark.contract("2.2-process-queued", "2.2-process-order")
async def test_draining_by_hand() -> None:
    """Awaited directly, it sends what waits in the order it came and leaves the queue empty."""
    bus, breaker = _double(KafkaConnectionError("away")), CircuitBreaker(failure_threshold=2, name="b")
    publisher, events = ResilientKafkaPublisher(bus, breaker), [_event(n) for n in range(2)]
    for event in events:
        with pytest.raises(KafkaConnectionError):
            await publisher.publish("t", event, None, {"h": "v"})
    breaker.reset()
    bus.publish.reset_mock(side_effect=True)
    await publisher._process_queued_messages()
    assert publisher.get_fallback_queue_size() == 0
    assert bus.publish.call_args_list == [call("t", event, None, {"h": "v"}) for event in events]


@pytest.mark.contract("2.2-recovery")
@pytest.mark.parametrize("state", [CircuitBreakerState.CLOSED, CircuitBreakerState.HALF_OPEN])
async def test_what_waits_is_sent_in_the_background(state: CircuitBreakerState) -> None:
    """With a breaker that lets calls through it is sent after the interval, though nobody publishes."""
    bus, breaker = _double(), _open_breaker()
    publisher = ResilientKafkaPublisher(bus, breaker, retry_interval=1)
    publisher.retry_interval = 0.05
    await publisher.start()
    await publisher.publish("t", _event(), "k")
    await asyncio.sleep(0.3)
    bus.publish.assert_not_called()
    if state is CircuitBreakerState.CLOSED:
        breaker.reset()
    else:
        breaker.state = state
    await until(lambda: publisher.get_fallback_queue_size() == 0)
    await publisher.stop()
    bus.publish.assert_called_once()


@pytest.mark.contract("2.2-drain-stops")
async def test_a_drain_stops_at_the_first_failure() -> None:
    """One attempt is made, the message is kept with its count one higher, and those behind it stay."""
    bus = _double(KafkaConnectionError("away"))
    publisher = ResilientKafkaPublisher(bus, CircuitBreaker(failure_threshold=99, name="b"))
    for number in range(3):
        with pytest.raises(KafkaConnectionError):
            await publisher.publish("t", _event(number))
    bus.publish.reset_mock()
    await publisher._process_queued_messages()
    assert (bus.publish.call_count, publisher.get_fallback_queue_size()) == (1, 3)
    waiting = [await publisher.fallback_handler.get_next_message() for _ in range(3)]
    counts = {message.envelope.data["n"]: message.retry_count for message in waiting if message}
    assert counts == {0: 1, 1: 0, 2: 0}


@pytest.mark.contract("2.2-drain-drops")
async def test_a_message_that_keeps_being_refused_is_dropped() -> None:
    """After five retries it is given up, counted, and no longer in the way."""
    bus = _double(ValueError("refused for what it is"))
    publisher = ResilientKafkaPublisher(bus, CircuitBreaker(failure_threshold=99, name="b"))
    with pytest.raises(ValueError, match="refused"):
        await publisher.publish("t", _event())
    sizes = []
    for _ in range(6):
        await publisher._process_queued_messages()
        sizes.append(publisher.get_fallback_queue_size())
    assert (sizes[0], sizes[3], sizes[-1]) == (1, 1, 0)
    assert publisher.fallback_handler.get_metrics()["total_dropped"] == 1


@pytest.mark.contract("2.2-wiring")
async def test_the_wiring_of_a_service() -> None:
    """Registered and named as services do it, the breaker opens at its threshold and lets a trial through later."""
    registry = CircuitBreakerRegistry()
    breaker = CircuitBreaker(
        name="essay_service.kafka_producer",
        failure_threshold=10,
        recovery_timeout=timedelta(milliseconds=50),
        success_threshold=3,
        expected_exception=KafkaError,
    )
    registry.register("kafka_producer", breaker)
    bus = _double(KafkaConnectionError("away"))
    publisher = ResilientKafkaPublisher(delegate=bus, circuit_breaker=registry.get("kafka_producer"), retry_interval=30)
    for number in range(10):
        assert publisher.get_circuit_breaker_state()["state"] == "closed"
        with pytest.raises(KafkaConnectionError):
            await publisher.publish("t", _event(number))
    assert publisher.get_circuit_breaker_state()["state"] == "open"
    bus.publish.side_effect = None
    await asyncio.sleep(0.2)
    await publisher._process_queued_messages()
    assert publisher.get_circuit_breaker_state().items() >= {"state": "closed", "fallback_queue_size": 0}.items()
