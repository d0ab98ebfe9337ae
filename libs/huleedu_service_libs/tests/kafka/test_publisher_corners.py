"""The resilient publisher where several things happen at once, and with messages that nobody could send."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from common_core import EventEnvelope
from huleedu_service_libs.kafka import ResilientKafkaPublisher
from huleedu_service_libs.kafka.errors import EnvelopeEncodingError, MessageTooLargeError
from huleedu_service_libs.kafka.recovery import Recovery
from huleedu_service_libs.resilience import CircuitBreaker

from ..resilience.times import Time
from .publishers import Bus, envelope, guarded


class PickyBus(Bus):
    """A bus that finds negative numbers too large to send."""

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        if envelope.data["n"] < 0:
            self.attempts += 1
            raise MessageTooLargeError(topic, size=2, limit=1)
        await super().publish(topic, envelope, key, headers)


async def test_a_message_that_can_never_be_sent_does_not_open_the_circuit() -> None:
    """The broker was not asked, so a breaker that expects every exception counts none; who published it gets the error."""
    bus = PickyBus()
    publisher = ResilientKafkaPublisher(bus, CircuitBreaker(failure_threshold=2))
    for _ in range(5):
        with pytest.raises(MessageTooLargeError):
            await publisher.publish("t", envelope(-1))
    assert publisher.get_circuit_breaker_state()["state"] == "closed"
    await publisher.publish("t", envelope(1))
    assert (bus.arrived, publisher.get_fallback_queue_size()) == ([(None, 1)], 0)


async def test_a_message_that_can_never_be_sent_holds_nobody_up() -> None:
    """Kept while the breaker was open, it is given up at its first attempt, and what waits behind it leaves in the same round."""
    time, bus = Time(), PickyBus()
    publisher = guarded(bus, time, threshold=1)
    bus.down = KafkaConnectionError()
    with pytest.raises(KafkaConnectionError):
        await publisher.publish("t", envelope(1), "k")
    for number in (-1, 2):
        await publisher.publish("t", envelope(number), "k")
    bus.down = None
    time.passes(11)
    await publisher._process_queued_messages()
    assert bus.arrived == [("k", 1), ("k", 2)]
    assert publisher.get_fallback_queue_size() == 0
    assert publisher.fallback_handler.get_metrics()["total_dropped"] == 1


async def test_publishing_behind_a_hopeless_message_is_not_answered_with_its_error() -> None:
    """A message of the same key is sent although the one before it, which waited, had to be given up."""
    time, bus = Time(), PickyBus()
    publisher = guarded(bus, time, threshold=1)
    assert publisher.circuit_breaker is not None
    publisher.circuit_breaker.isolate()
    await publisher.publish("t", envelope(-1), "k")
    publisher.circuit_breaker.reset()
    await publisher.publish("t", envelope(2), "k")
    assert (bus.arrived, publisher.get_fallback_queue_size()) == ([("k", 2)], 0)


def test_errors_found_before_sending_are_no_outage() -> None:
    """They say of themselves that trying again is futile, though the broker was not reached."""
    assert EnvelopeEncodingError("t.v1", "a set").retriable is False


async def test_starting_twice_at_once_starts_once() -> None:
    """Two tasks that start it share one bus and one task that looks after the queue."""
    bus = Bus()
    publisher = guarded(bus)
    await asyncio.gather(publisher.start(), publisher.start())
    assert bus.life == ["start"]
    assert _recoveries() == 1
    await publisher.stop()
    assert (bus.life, _recoveries()) == (["start", "stop"], 0)


async def test_a_stop_that_was_cancelled_is_finished_by_the_next() -> None:
    """It leaves no task behind, and the bus is stopped when the next one returns."""
    bus = Bus()
    publisher = guarded(bus, threshold=1, interval=0.01)
    blocked = asyncio.Event()

    async def hangs(*_: object) -> None:
        await blocked.wait()

    await publisher.start()
    assert publisher.circuit_breaker is not None
    publisher.circuit_breaker.isolate()
    await publisher.publish("t", envelope(1))
    bus.publish = hangs  # type: ignore[method-assign, assignment]  # the drain waits for a broker that says nothing
    publisher.circuit_breaker.reset()
    await asyncio.sleep(0.05)
    first = asyncio.create_task(publisher.stop())
    await asyncio.sleep(0.01)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert bus.life == ["start"]
    blocked.set()
    await publisher.stop()
    assert (bus.life, _recoveries()) == (["start", "stop"], 0)


async def test_a_start_after_a_stop_that_gave_up_on_its_task_has_a_task_of_its_own() -> None:
    """Whoever starts anew is not left with the task that a cancelled stop has already ended: what waits is sent."""
    rounds, let_go = asyncio.Queue[str](), asyncio.Event()

    async def process() -> None:
        if rounds.empty():
            await rounds.put("held up")
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await rounds.put("cancelled")
                await let_go.wait()
                raise
        await rounds.put("again")

    handler = SimpleNamespace(has_queued_messages=lambda: True)
    sender: Any = SimpleNamespace(handler=handler, breaker=None, held_up=False)
    recovery = Recovery(sender, process, lambda: 0.01)
    recovery.start()
    async with asyncio.timeout(10):
        while rounds.qsize() < 1:
            await asyncio.sleep(0.01)
        stop = asyncio.create_task(recovery.stop(0.01))
        while rounds.qsize() < 2:
            await asyncio.sleep(0.01)
        stop.cancel()
        await asyncio.wait([stop])
        recovery.start()
        let_go.set()
        while rounds.qsize() < 3:
            await asyncio.sleep(0.01)
    await recovery.stop(10)
    assert [rounds.get_nowait() for _ in range(3)] == ["held up", "cancelled", "again"]


def _recoveries() -> int:
    return sum(task.get_name() == "kafka-fallback-recovery" for task in asyncio.all_tasks())
