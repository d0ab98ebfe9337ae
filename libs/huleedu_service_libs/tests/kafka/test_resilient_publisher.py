"""The publisher with a breaker and a queue: what services rely on, and what outages must not do."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from hypothesis import given, settings

from common_core import CircuitBreakerState, EventEnvelope
from huleedu_service_libs.kafka import FallbackMessageHandler, ResilientKafkaPublisher
from huleedu_service_libs.kafka.errors import MessageTooLargeError
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher as SamePublisher
from huleedu_service_libs.kafka.spill import FileSpill
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.outbox.delivery import BatchSender, sender_for
from huleedu_service_libs.outbox.spill import OutboxSpill
from huleedu_service_libs.resilience import CircuitBreakerError

from ..outbox.doubles import Event
from ..resilience.times import Time
from ..waiting import until
from .publishers import BatchBus, Bus, Step, course_of, courses, envelope, guarded


async def _fail(publisher: ResilientKafkaPublisher, number: int, key: str | None = None) -> None:
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(number), key)


async def test_without_a_breaker_it_passes_four_arguments_on() -> None:
    """`delegate.publish` gets topic, event, key and headers by position, None when absent."""
    bus = AsyncMock(spec=KafkaBus)
    bus.client_id, bus.bootstrap_servers = "c", "b"
    publisher = ResilientKafkaPublisher(bus)
    event = envelope()
    await publisher.start()
    await publisher.publish("t", event, "k")
    await publisher.stop()
    bus.publish.assert_called_once_with("t", event, "k", None)
    bus.start.assert_called_once_with()
    bus.stop.assert_called_once_with()
    assert publisher.get_circuit_breaker_state() == {"enabled": False}
    assert (publisher.client_id, publisher.bootstrap_servers) == ("c", "b")
    assert (publisher.retry_interval, publisher.fallback_handler.max_queue_size) == (30, 1000)
    assert not issubclass(ResilientKafkaPublisher, KafkaBus)
    assert SamePublisher is ResilientKafkaPublisher


async def test_a_failure_is_raised_and_queued_and_an_open_breaker_only_queues() -> None:
    """After `failure_threshold` failures as many messages wait and the breaker is open; then the bus is left alone."""
    bus = AsyncMock(spec=KafkaBus)
    error = KafkaError("no broker")
    bus.publish.side_effect = error
    publisher = guarded(bus, threshold=3)
    for number in range(3):
        with pytest.raises(KafkaError) as raised:
            await publisher.publish("t", envelope(number), "k")
        assert raised.value is error
    assert publisher.get_fallback_queue_size() == 3
    assert publisher.get_circuit_breaker_state()["state"] == "open"
    bus.publish.reset_mock()
    await publisher.publish("t", envelope(3), "k")
    bus.publish.assert_not_called()
    state = publisher.get_circuit_breaker_state()
    assert (state["enabled"], state["fallback_queue_size"], state["name"]) == (True, 4, "svc.kafka_producer")


async def test_draining_by_hand_empties_the_queue_even_while_open() -> None:
    """Services' tests await `_process_queued_messages` and expect an empty queue."""
    bus = Bus()
    publisher = guarded(bus)
    assert publisher.circuit_breaker is not None
    publisher.circuit_breaker.state = CircuitBreakerState.OPEN
    publisher.circuit_breaker.last_failure_time = datetime.now(UTC) + timedelta(days=999)
    for number in range(3):
        await publisher.publish("t", envelope(number), "k")
    assert (bus.attempts, publisher.get_fallback_queue_size()) == (0, 3)
    await publisher._process_queued_messages()
    assert publisher.get_fallback_queue_size() == 0
    assert bus.arrived == [("k", 0), ("k", 1), ("k", 2)]
    assert publisher.circuit_breaker.state is CircuitBreakerState.CLOSED


async def test_a_full_queue_raises() -> None:
    """Neither sent nor kept: the caller learns of it."""
    bus = Bus()
    bus.down = KafkaConnectionError("gone")
    publisher = guarded(bus, fallback_handler=FallbackMessageHandler(max_queue_size=1), threshold=1)
    await _fail(publisher, 0)
    with pytest.raises(Exception, match="Fallback queue is full"):
        await publisher.publish("t", envelope(1))


async def test_what_can_never_be_sent_is_not_queued() -> None:
    """A message too large is the caller's to mend; it neither waits nor counts against the broker."""
    bus = Bus()
    bus.down = MessageTooLargeError("t", size=2, limit=1)
    publisher = guarded(bus, threshold=1)
    with pytest.raises(MessageTooLargeError):
        await publisher.publish("t", envelope())
    assert publisher.get_fallback_queue_size() == 0
    assert publisher.get_circuit_breaker_state()["state"] == "closed"


async def test_queued_messages_are_sent_when_the_broker_is_back_though_nobody_publishes() -> None:
    """The recovery task tries by itself once the open time is over, through the breaker."""
    time, bus = Time(), Bus()
    publisher = guarded(bus, time, interval=0.01)
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        await _fail(publisher, number, "k")
    await publisher.publish("t", envelope(2), "k")
    bus.down = None
    time.passes(10)
    await until(lambda: publisher.get_fallback_queue_size() == 0 and len(bus.arrived) == 3)
    assert bus.arrived == [("k", 0), ("k", 1), ("k", 2)]
    assert publisher.get_circuit_breaker_state()["state"] == "closed"
    await publisher.stop()


async def test_a_broker_that_stays_away_costs_no_message() -> None:
    """Ten failed recoveries of an outage drop nothing; the breaker spaces them out."""
    time, bus = Time(), Bus()
    publisher = guarded(bus, time)
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        await _fail(publisher, number, "k")
    for _ in range(10):
        time.passes(10)
        await publisher._process_queued_messages()
    assert publisher.get_fallback_queue_size() == 2
    assert [each.retry_count for each in publisher.fallback_handler.waiting()] == [10, 0]


async def test_what_keeps_being_refused_is_dropped_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Five refusals that are no outage end a message; the next one goes on."""
    bus = Bus()
    publisher = guarded(bus)
    bus.down = KafkaError("refused")
    await _fail(publisher, 0)
    await _fail(publisher, 1)
    for _ in range(5):
        await publisher._process_queued_messages()
    assert publisher.get_fallback_queue_size() == 1
    assert publisher.fallback_handler.get_metrics()["total_dropped"] == 1
    assert "kafka_message_dropped" in capsys.readouterr().out


async def test_traffic_does_not_use_up_the_attempts_of_what_was_refused() -> None:
    """A refused message gets its attempts by the interval, not by the number of other messages that succeed."""
    bus = Bus()
    refused = envelope(99)

    async def publish(_topic: str, event: EventEnvelope[Any], _key: str | None, _headers: Any) -> None:
        if event is refused:
            raise KafkaError("refused")

    bus.publish = AsyncMock(side_effect=publish)  # type: ignore[method-assign]
    publisher = guarded(bus, threshold=50)
    await publisher.start()
    with pytest.raises(KafkaError):
        await publisher.publish("t", refused, "bad")
    for number in range(50):
        await publisher.publish("t", envelope(number), "good")
        await asyncio.sleep(0)
    assert [each.retry_count for each in publisher.fallback_handler.waiting()] == [1]
    await publisher.stop()


async def test_a_new_message_waits_behind_its_key() -> None:
    """While a message of the key waits, a later one is sent after it, or queued behind it; other keys go first."""
    bus = Bus()
    publisher = guarded(bus, threshold=5)
    bus.down = KafkaConnectionError("gone")
    await _fail(publisher, 0, "k")
    await _fail(publisher, 1, "k")
    bus.down = None
    await publisher.publish("t", envelope(2), "other")
    await publisher.publish("t", envelope(3), "k")
    assert bus.arrived == [("other", 2), ("k", 0), ("k", 1), ("k", 3)]


async def test_start_and_stop_may_follow_each_other() -> None:
    """Each start and stop reaches the bus once; after a stop it can be started, and recovers again."""
    time, bus = Time(), Bus()
    publisher = guarded(bus, time, interval=0.01)
    for _ in range(2):
        await publisher.start()
        await publisher.start()
        await publisher.stop()
    assert bus.life == ["start", "stop"] * 2
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        await _fail(publisher, number)
    bus.down = None
    time.passes(10)
    await until(lambda: len(bus.arrived) == 2)
    await publisher.stop()


async def test_stop_sends_what_waits() -> None:
    """With the broker back, stopping drains before the bus is stopped."""
    bus = Bus()
    publisher = guarded(bus, threshold=5)
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    await _fail(publisher, 0)
    bus.down = None
    await publisher.stop()
    assert bus.arrived == [(None, 0)]


async def test_stop_reports_by_name_what_it_could_not_send(capsys: pytest.CaptureFixture[str]) -> None:
    """Topic, key, type and id of each stand in the log; the messages stay for a later start."""
    bus = Bus()
    publisher = guarded(bus)
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    event = envelope()
    with pytest.raises(KafkaError):
        await publisher.publish("t", event, "k")
    await publisher.stop()
    line = next(each for each in capsys.readouterr().out.splitlines() if "kafka_messages_unsent" in each)
    assert f"t[k] t.v1 {event.event_id}" in line
    assert publisher.get_fallback_queue_size() == 1


async def test_spilled_to_a_file_and_taken_back(tmp_path: Path) -> None:
    """A stop writes what is left; another process's start sends it in order and removes the file."""
    path = tmp_path / "spilled.jsonl"
    bus = Bus()
    first = guarded(bus, spill=FileSpill(path))
    await first.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        await _fail(first, number, "å")
    await first.publish("t", envelope(2), "å", {"h": "v"})
    await first.stop()
    assert first.get_fallback_queue_size() == 0
    assert len(path.read_text().splitlines()) == 3
    bus.down = None
    second = guarded(bus, spill=FileSpill(path))
    await second.start()
    await until(lambda: len(bus.arrived) == 3)
    await second.stop()
    assert bus.arrived == [("å", 0), ("å", 1), ("å", 2)]
    assert not path.exists()


async def test_spilled_to_the_outbox() -> None:
    """The relay gets rows with the envelope as it was."""
    repository = AsyncMock()
    message = QueuedMessage("t", envelope(7), "k", datetime.now(UTC), headers={"h": "v"})
    await OutboxSpill(repository).save([message])
    fields = repository.add_event.call_args.kwargs
    assert (fields["topic"], fields["event_key"], fields["aggregate_id"]) == ("t", "k", "k")
    assert fields["event_data"]["event_id"] == str(message.envelope.event_id)
    assert fields["event_data"]["headers"] == {"h": "v"}
    assert await OutboxSpill(repository).load() == []


async def test_confirmed_publishing_never_queues() -> None:
    """It raises instead: the breaker's refusal or the bus's error."""
    bus = Bus()
    publisher = guarded(bus)
    bus.down = KafkaConnectionError("gone")
    for _ in range(2):
        with pytest.raises(KafkaConnectionError):
            await publisher.publish_confirmed("t", envelope())
    with pytest.raises(CircuitBreakerError):
        await publisher.publish_confirmed("t", envelope())
    assert publisher.get_fallback_queue_size() == 0


@pytest.mark.parametrize("bus_type", [Bus, BatchBus])
async def test_the_relay_gets_true_acknowledgements(bus_type: type[Bus]) -> None:
    """Through the breaker: an outage and an open breaker are transient outcomes, and nothing is queued."""
    time, bus = Time(), bus_type()
    publisher = guarded(bus, time)
    sender = sender_for(publisher, "svc")
    assert isinstance(sender, BatchSender)
    events = [Event(event_key="a"), Event(event_key="a")]
    for event in events:
        event.event_data["data"] = {"n": 1}
    assert all(outcome.acknowledged for outcome in await sender.deliver(events))
    bus.down = KafkaConnectionError("gone")
    for _ in range(2):
        outcomes = await sender.deliver(events)
        assert [outcome.transient for outcome in outcomes] == [True, True]
        assert [outcome.attempted for outcome in outcomes] == [True, False]
    attempts = bus.attempts
    outcomes = await sender.deliver(events)
    assert [(outcome.transient, outcome.attempted) for outcome in outcomes] == [(True, False)] * 2
    assert isinstance(outcomes[0].error, CircuitBreakerError)
    assert is_outage(CircuitBreakerError("x"))
    assert (bus.attempts, publisher.get_fallback_queue_size()) == (attempts, 0)
    bus.down = None
    time.passes(10)
    assert all(outcome.acknowledged for outcome in await sender.deliver(events))


async def test_a_cancelled_drain_loses_nothing() -> None:
    """The message in hand goes back to the front."""
    bus = Bus()
    publisher = guarded(bus, threshold=9)
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        await _fail(publisher, number)
    bus.publish = AsyncMock(side_effect=asyncio.Event().wait)  # type: ignore[method-assign]
    task = asyncio.create_task(publisher._process_queued_messages())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [each.envelope.data["n"] for each in publisher.fallback_handler.waiting()] == [0, 1]


@given(steps=courses())
@settings(max_examples=150)
def test_order_of_a_key_over_any_course_of_outages(steps: list[Step]) -> None:
    """Whatever the broker does, every message arrives exactly once, and each key in its order."""
    bus = Bus()

    async def make(time: Time) -> ResilientKafkaPublisher:
        publisher = guarded(bus, time)
        await publisher.start()
        return publisher

    publisher = asyncio.run(course_of(steps, bus, make))
    assert publisher.get_fallback_queue_size() == 0
