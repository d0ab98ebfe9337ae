"""Events published at the same time travel together: order, outcomes, bounds and time limits of each caller."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.turns import Turn
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig, MessageHeldBackError, PublishTimeoutError
from huleedu_service_libs.protocols import OutgoingMessage
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

integration = pytest.mark.integration


def _event(n: int, **data: Any) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="test", data={"n": n, **data})


def _numbers(records: Any, key: bytes | None = None) -> list[int]:
    return [json.loads(each.value)["data"]["n"] for each in records if key is None or each.key == key]


@contextmanager
def _batches_counted(bus: KafkaBus) -> Iterator[list[Any]]:
    accumulator = bus.producer._message_accumulator
    real, seen = accumulator._append_batch, []

    def counted(*args: Any) -> Any:
        seen.append(args)
        return real(*args)

    with patch.object(accumulator, "_append_batch", counted):
        yield seen


@contextmanager
def _driver_that_sends_nothing(bus: KafkaBus) -> Iterator[None]:
    """As when no broker answers: the driver keeps what it has."""
    with patch.object(bus.producer._message_accumulator, "drain_by_nodes", lambda **_: ({}, False)):
        yield


@integration
async def test_concurrent_events_share_batches_and_keep_their_order(
    bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """A thousand calls at once need few batches, and the events of a key arrive in the order of the calls."""
    topic = kafka_topic()
    await bus.publish(topic, _event(-1), key="warm")
    with _batches_counted(bus) as batches:
        await asyncio.gather(*(bus.publish(topic, _event(n), key=f"k{n % 7}") for n in range(1_000)))
    assert len(batches) < 50
    records = await read_back(topic)
    for key in range(7):
        assert _numbers(records, f"k{key}".encode()) == list(range(key, 1_000, 7))


@integration
async def test_order_is_kept_from_the_first_event_of_a_topic_on(
    bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """Calls that arrive while the topic is still being looked up do not overtake each other."""
    topic = kafka_topic()
    first = [asyncio.create_task(bus.publish(topic, _event(n), key="k")) for n in range(20)]
    while not first[0].done():
        first.append(asyncio.create_task(bus.publish(topic, _event(len(first)), key="k")))
        await asyncio.sleep(0)
    await asyncio.gather(*first)
    assert _numbers(await read_back(topic)) == list(range(len(first)))


@integration
async def test_a_refused_event_fails_only_its_caller(bus: KafkaBus, limited_topic: Any, read_back: Any) -> None:
    """Of many events that travel together, the one that the topic refuses fails alone, and costs no producer."""
    topic = await limited_topic(2_000)
    producer = bus.producer

    def event(n: int) -> EventEnvelope[Any]:
        return _event(n, text="x" * 5_000) if n == 13 else _event(n)

    outcomes = await asyncio.gather(*(bus.publish(topic, event(n), key="k") for n in range(30)), return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if outcome is not None] == [13]
    assert isinstance(outcomes[13], MessageSizeTooLargeError)
    assert _numbers(await read_back(topic)) == [n for n in range(30) if n != 13]
    assert bus.producer is producer


@integration
async def test_callers_that_failed_have_errors_of_their_own(bus: KafkaBus, limited_topic: Any) -> None:
    """Two callers never share one exception, whose traceback each would add to."""
    topic = await limited_topic(2_000)
    outcomes = await asyncio.gather(
        *(bus.publish(topic, _event(n, text="x" * 5_000), key="k") for n in range(2)), return_exceptions=True
    )
    assert outcomes[0] is not outcomes[1]
    assert {type(outcome) for outcome in outcomes} == {MessageSizeTooLargeError}


@integration
async def test_a_producer_out_of_step_costs_no_caller_anything(
    bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """Events that travel together when the sequence has a gap are sent by the next producer, in order."""
    topic = kafka_topic()
    await bus.publish(topic, _event(0), key="k")
    broken = bus.producer
    for partition in list(broken._txn_manager._sequence_numbers):
        broken._txn_manager.increment_sequence_number(partition, 10)
    await asyncio.gather(*(bus.publish(topic, _event(n), key="k") for n in range(1, 20)))
    assert bus.producer is not broken
    assert _numbers(await read_back(topic)) == list(range(20))


@integration
async def test_a_cancelled_caller_harms_nobody(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Cancelling callers, before and after their events are with the driver, leaves the others their order."""
    topic = kafka_topic()
    await bus.publish(topic, _event(-1), key="k")
    tasks = [asyncio.create_task(bus.publish(topic, _event(n), key="k")) for n in range(100)]
    tasks[0].cancel()  # has not begun
    await asyncio.sleep(0)
    for n in range(10, 100, 10):
        tasks[n].cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    cancelled = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, asyncio.CancelledError)]
    assert cancelled == list(range(0, 100, 10))
    await bus.publish(topic, _event(100), key="k")
    arrived = _numbers(await read_back(topic))
    assert arrived == sorted(set(arrived))
    assert set(range(101)) - set(cancelled) <= set(arrived)
    assert 0 not in arrived


@integration
async def test_what_is_buffered_is_bounded(real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Beyond the bound callers wait for room, and get it in turn."""
    topic = kafka_topic()
    config = KafkaBusConfig(max_request_size=2_000, batch_size=1_000, max_buffered_bytes=4_000)
    async with KafkaBus(client_id="bounded", bootstrap_servers=real_kafka.address, config=config) as bus:
        tasks = [asyncio.create_task(bus.publish(topic, _event(n), key="k")) for n in range(200)]
        await asyncio.sleep(0)
        assert 0 <= bus._coalescer._free < 4_000
        assert len(bus._coalescer._queue) > 150
        await asyncio.gather(*tasks)
        assert (bus._coalescer._free, len(bus._coalescer._queue)) == (4_000, 0)
    assert _numbers(await read_back(topic)) == list(range(200))


@integration
async def test_time_limits_hold_for_each_caller(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """While nothing is acknowledged each caller waits its own time; what may still arrive is not sent again."""
    topic = kafka_topic()
    config = KafkaBusConfig(request_timeout_s=0.4, publish_timeout_s=0.5)
    async with KafkaBus(client_id="late", bootstrap_servers=real_kafka.address, config=config) as bus:
        await bus.publish(topic, _event(0), key="k")
        with _driver_that_sends_nothing(bus):
            with pytest.raises(PublishTimeoutError, match="may still arrive"):
                await bus.publish(topic, _event(1), key="k")
            with pytest.raises((PublishTimeoutError, MessageHeldBackError)) as caught:
                await bus.publish(topic, _event(2), key="k")
            assert not getattr(caught.value, "sent", False)
        await bus.publish(topic, _event(3), key="k")
    assert _numbers(await read_back(topic)) == [0, 1, 3]


@integration
async def test_an_event_in_doubt_is_not_sent_twice(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """Publishing an event again that was not acknowledged in time waits for the first attempt, which may have arrived."""
    topic, event = kafka_topic(), _event(1)
    config = KafkaBusConfig(request_timeout_s=1, publish_timeout_s=1.5)
    async with KafkaBus(client_id="doubt", bootstrap_servers=real_kafka.address, config=config) as bus:
        await bus.publish(topic, _event(0), key="k")
        with _driver_that_sends_nothing(bus):
            with pytest.raises(PublishTimeoutError):
                await bus.publish(topic, event, key="k")
            again = asyncio.create_task(bus.publish(topic, event, key="k"))
            await asyncio.sleep(0)
        await again
    assert _numbers(await read_back(topic)) == [0, 1]


@integration
async def test_stopping_sends_what_waits(real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Callers that were waiting when the bus was stopped are answered, and their events arrive."""
    topic = kafka_topic()
    config = KafkaBusConfig(batch_size=1_000)  # a few events each
    bus = KafkaBus(client_id="stopping", bootstrap_servers=real_kafka.address, config=config)
    await bus.start()
    tasks = [asyncio.create_task(bus.publish(topic, _event(n), key="k")) for n in range(100)]
    await asyncio.sleep(0)
    await bus.stop()
    await asyncio.gather(*tasks)
    assert _numbers(await read_back(topic)) == list(range(100))


@integration
async def test_stopping_without_a_broker_leaves_no_caller_waiting(
    real_kafka: KafkaServer, kafka_topic: TopicFactory
) -> None:
    """What cannot be sent within the stop time-out fails, whether the driver had it or not."""
    topic = kafka_topic()
    config = KafkaBusConfig(batch_size=1_000, stop_timeout_s=0.3)
    bus = KafkaBus(client_id="cut-off", bootstrap_servers=real_kafka.address, config=config)
    await bus.start()
    await bus.publish(topic, _event(0), key="k")
    with _driver_that_sends_nothing(bus):
        tasks = [asyncio.create_task(bus.publish(topic, _event(n), key="k")) for n in range(30)]
        await asyncio.sleep(0)
        await asyncio.wait_for(bus.stop(), 15)
        outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 15)
    assert all(isinstance(outcome, KafkaError | RuntimeError) for outcome in outcomes)


@integration
async def test_batches_and_single_events_take_turns(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Batches and single events of one partition do not overtake what was begun before them."""
    topic = kafka_topic()

    async def batch(n: int) -> None:
        value = json.dumps({"data": {"n": n}}).encode()
        (outcome,) = await bus.publish_batch([OutgoingMessage(topic=topic, value=value, key=b"k")])
        assert outcome.acknowledged

    async def caller(first: int) -> None:
        for n in range(first, first + 10):
            await (batch(n) if n % 3 == 0 else bus.publish(topic, _event(n), key="k"))

    await asyncio.gather(*(caller(first) for first in range(0, 100, 10)))
    arrived = _numbers(await read_back(topic))
    assert sorted(arrived) == list(range(100))
    for first in range(0, 100, 10):
        assert [n for n in arrived if first <= n < first + 10] == list(range(first, first + 10))


async def test_a_double_of_the_producer_sees_one_call_for_each_event() -> None:
    """A producer that is not the driver's own gets `send_and_wait`, once, as if there were no batches."""
    bus = KafkaBus(client_id="double")
    bus.producer = producer = AsyncMock()
    bus._started = True
    await bus.publish("t", _event(1), key="k")
    producer.send_and_wait.assert_awaited_once()
    assert producer.send_and_wait.await_args.args == ("t",)
    given = producer.send_and_wait.await_args.kwargs
    assert (given["key"], given["headers"], json.loads(given["value"])["data"]) == (b"k", None, {"n": 1})
    assert [call[0] for call in producer.mock_calls] == ["send_and_wait"]


async def test_a_patched_method_of_the_real_producer_is_called() -> None:
    """Patching `send_and_wait` of the real producer works as before."""
    bus = KafkaBus(client_id="patched")
    with patch.object(bus.producer, "send_and_wait", AsyncMock()) as patched:
        bus.producer = bus.producer
        bus._started = True
        await bus.publish("t", _event(1))
    patched.assert_awaited_once()
    bus._started = False
    await bus.stop()


async def test_turns_go_round_in_the_order_of_asking() -> None:
    """A turn is free, taken, and handed on; who was cancelled while waiting is passed over."""
    turn, order = Turn(), []

    async def user(name: str) -> None:
        async with turn.held():
            order.append(name)

    assert turn.try_take()
    users = [asyncio.create_task(user(name)) for name in "abc"]
    await asyncio.sleep(0)
    assert turn.is_wanted
    assert not turn.try_take()
    users[0].cancel()
    await asyncio.sleep(0)
    turn.give_back()
    await asyncio.gather(*users, return_exceptions=True)
    assert order == ["b", "c"]
    assert turn.try_take()


async def test_a_turn_given_to_one_that_is_being_cancelled_is_not_lost() -> None:
    """When hand-over and cancellation meet, the next in line has it."""
    turn = Turn()

    async def user() -> None:
        async with turn.held():
            pass

    assert turn.try_take()
    first, second = asyncio.create_task(user()), asyncio.create_task(user())
    await asyncio.sleep(0)
    turn.give_back()
    first.cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 15)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1] is None
    assert turn.try_take()
