"""Batches: order, partitions, and what becomes of the messages around a failure."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from aiokafka import partitioner as reference
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from common_core import EventEnvelope
from huleedu_service_libs.kafka.driver_errors import InvalidRecordError
from huleedu_service_libs.kafka.partitioning import murmur2
from huleedu_service_libs.kafka_client import (
    InvalidMessageError,
    InvalidTopicError,
    KafkaBus,
    KafkaBusConfig,
    KafkaUnreachableError,
    MessageHeldBackError,
    MessageTooLargeError,
    PublishTimeoutError,
)
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

pytestmark = pytest.mark.integration


def _messages(topic: str, keys: Sequence[str], *, size: int = 0) -> list[OutgoingMessage]:
    return [
        OutgoingMessage(topic=topic, key=key.encode(), value=f"{number}".encode().ljust(size))
        for number, key in enumerate(keys)
    ]


async def _until_taken(bus: KafkaBus) -> None:
    """Wait until the driver has a batch to send."""
    accumulator = bus.producer._message_accumulator
    while not accumulator._batches and not accumulator._pending_batches:
        await asyncio.sleep(0)


def _numbers(records: list[Any]) -> list[int]:
    return [int(record.value) for record in records]


@given(st.binary(max_size=80))
def test_keys_are_hashed_like_the_driver_does(key: bytes) -> None:
    """Our faster murmur2 is aiokafka's, for every key."""
    assert murmur2(key) == reference.murmur2(key)


async def test_a_key_has_one_partition_whichever_way(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """`send` and `publish_batch` put a key on the same partition."""
    topic = kafka_topic(partitions=7)
    keys = [f"nyckel-å-{number}" for number in range(60)]
    single = {}
    for key in keys:
        single[key.encode()] = (await bus.producer.send_and_wait(topic, "-1", key=key)).partition
    await bus.publish_batch(_messages(topic, keys))
    batched = {record.key: record.partition for record in await read_back(topic) if record.value != b"-1"}
    assert batched == single
    assert len(set(single.values())) == 7


async def test_ten_thousand_messages_over_fifty_keys_in_order(
    bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """All arrive, none twice, each key in its order, with headers."""
    topic = kafka_topic(partitions=6)
    messages = [
        OutgoingMessage(
            topic=topic,
            key=f"key-{number % 50}".encode(),
            value=f"{number}".encode(),
            headers=[("n", f"{number}".encode())],
        )
        for number in range(10_000)
    ]
    for start in range(0, 10_000, 2_500):
        outcomes = await bus.publish_batch(messages[start : start + 2_500])
        assert outcomes == [DeliveryOutcome()] * 2_500
    by_key: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in await read_back(topic):
        by_key[record.key].append(int(record.value))
        assert record.headers == (("n", record.value),)
    assert {key: numbers for key, numbers in by_key.items() if numbers != sorted(set(numbers))} == {}
    assert sum(map(len, by_key.values())) == 10_000


async def test_several_record_batches_of_one_partition_keep_the_order(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """More than one record batch holds arrives in order, too."""
    topic = kafka_topic()
    config = KafkaBusConfig(batch_size=1_000)
    async with KafkaBus(client_id="small", bootstrap_servers=real_kafka.address, config=config) as bus:
        outcomes = await bus.publish_batch(_messages(topic, ["k"] * 100, size=100))
    assert all(outcome.acknowledged for outcome in outcomes)
    assert _numbers(await read_back(topic)) == list(range(100))


async def test_keyless_messages_spread(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Without a key every partition gets its share."""
    topic = kafka_topic(partitions=4)
    await bus.publish_batch([OutgoingMessage(topic=topic, value=b"1") for _ in range(400)])
    assert {record.partition for record in await read_back(topic)} == {0, 1, 2, 3}


async def test_nothing_to_send() -> None:
    """An empty batch needs no broker."""
    assert await KafkaBus(client_id="x", bootstrap_servers="nowhere.invalid:1").publish_batch([]) == []


async def test_poison_fails_alone_and_holds_back_its_key(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """What can never be sent fails for good; later messages of its key wait, all others arrive."""
    topic = kafka_topic()
    config = KafkaBusConfig(max_request_size=10_000, batch_size=5_000)
    messages = _messages(topic, ["a", "b", "a", "b", "c", "a"])
    messages[2] = OutgoingMessage(topic=topic, key=b"a", value=b"x" * 20_000)
    messages += [
        OutgoingMessage(topic="inte giltigt", key=b"d", value=b"6"),
        OutgoingMessage(topic=topic, key=b"d", value=b"7"),
        OutgoingMessage(topic=topic, key=b"e", value=b"8", headers=[("n", "text")]),  # type: ignore[list-item]
        OutgoingMessage(topic=topic, value=b"x" * 20_000),
        OutgoingMessage(topic=topic, value=b"10"),
    ]
    async with KafkaBus(client_id="poison", bootstrap_servers=real_kafka.address, config=config) as bus:
        outcomes = await bus.publish_batch(messages)
    for index, kind in {
        2: MessageTooLargeError,
        6: InvalidTopicError,
        8: InvalidMessageError,
        9: MessageTooLargeError,
    }.items():
        assert isinstance(outcomes[index].error, kind)
        assert (outcomes[index].transient, outcomes[index].attempted) == (False, True)
    assert isinstance(outcomes[5].error, MessageHeldBackError)
    assert (outcomes[5].transient, outcomes[5].attempted) == (True, False)
    assert [index for index, outcome in enumerate(outcomes) if outcome.acknowledged] == [0, 1, 3, 4, 7, 10]
    assert sorted(_numbers(await read_back(topic))) == [0, 1, 3, 4, 7, 10]


async def test_what_the_broker_refuses_is_found(bus: KafkaBus, limited_topic: Any, read_back: Any) -> None:
    """One message that only the broker knows to be too large is singled out of a large batch."""
    topic = await limited_topic(4_000)
    keys = [f"k{number % 10}" for number in range(200)]
    messages = _messages(topic, keys)
    messages[77] = OutgoingMessage(topic=topic, key=keys[77].encode(), value=b"x" * 9_000)
    outcomes = await bus.publish_batch(messages)
    held_back = [index for index in range(78, 200) if keys[index] == keys[77]]
    assert isinstance(outcomes[77].error, MessageSizeTooLargeError)
    assert (outcomes[77].transient, outcomes[77].attempted) == (False, True)
    assert [i for i, outcome in enumerate(outcomes) if not outcome.attempted] == held_back
    arrived = [index for index in range(200) if index != 77 and index not in held_back]
    assert _numbers(await read_back(topic)) == arrived
    # the refusal has left no trace: the rest goes out
    assert all(outcome.acknowledged for outcome in await bus.publish_batch([messages[index] for index in held_back]))


async def test_many_refusals_cost_no_new_producer(bus: KafkaBus, limited_topic: Any, read_back: Any) -> None:
    """A quarter of a batch is refused by the broker: the rest arrives, in order, through the same producer."""
    topic = await limited_topic(4_000)
    messages = _messages(topic, [f"k{number}" for number in range(100)])
    for index in range(0, 100, 4):
        messages[index] = OutgoingMessage(topic=topic, key=f"k{index}".encode(), value=b"x" * 9_000)
    producer = bus.producer
    outcomes = await bus.publish_batch(messages)
    assert [index for index, outcome in enumerate(outcomes) if not outcome.acknowledged] == list(range(0, 100, 4))
    assert all(isinstance(outcomes[index].error, MessageSizeTooLargeError) for index in range(0, 100, 4))
    assert bus.producer is producer
    again = _messages(topic, ["later"] * 3)
    assert all(outcome.acknowledged for outcome in await bus.publish_batch(again))
    assert _numbers(await read_back(topic)) == [index for index in range(100) if index % 4] + [0, 1, 2]


async def test_a_refusal_beside_single_sends_is_healed(bus: KafkaBus, limited_topic: Any, read_back: Any) -> None:
    """Sequence numbers that others have taken meanwhile are not given back: whatever happens, all arrive once."""
    topic = await limited_topic(4_000)
    refused = OutgoingMessage(topic=topic, key=b"bad", value=b"x" * 9_000)
    single: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="s", data={})
    for _ in range(10):
        refusing = asyncio.create_task(bus.publish_batch([refused]))
        await asyncio.gather(*(bus.publish(topic, single, key="k") for _ in range(5)))
        (outcome,) = await refusing
        assert not outcome.transient
    assert len(await read_back(topic)) == 50


async def test_a_record_that_the_topic_does_not_take_is_refused(
    bus: KafkaBus, real_kafka: KafkaServer, unique_name: str, read_back: Any
) -> None:
    """A compacted topic takes none without key: that is the record's fault, and the others go."""
    admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
    await admin.start()
    topic_configs = {"cleanup.policy": "compact"}
    await admin.create_topics([NewTopic(unique_name, 1, 1, topic_configs=topic_configs)])
    await admin.close()
    messages = [OutgoingMessage(topic=unique_name, value=b"0"), *_messages(unique_name, ["k", "k"])]
    outcomes = await bus.publish_batch(messages)
    assert isinstance(outcomes[0].error, InvalidRecordError)
    assert [(outcome.acknowledged, outcome.transient) for outcome in outcomes] == [
        (False, False),
        (True, False),
        (True, False),
    ]
    assert _numbers(await read_back(unique_name)) == [0, 1]


async def test_batches_too_large_only_together_are_split(bus: KafkaBus, limited_topic: Any, read_back: Any) -> None:
    """A topic whose limit is below our batch size takes everything, in smaller batches."""
    topic = await limited_topic(3_000)
    outcomes = await bus.publish_batch(_messages(topic, ["k"] * 40, size=500))
    assert all(outcome.acknowledged for outcome in outcomes)
    assert _numbers(await read_back(topic)) == list(range(40))


async def test_a_producer_out_of_step_is_replaced(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """A gap in the sequence numbers is healed without losing, doubling or reordering anything."""
    topic = kafka_topic(partitions=3)
    keys = [f"k{number % 9}" for number in range(90)]
    messages = _messages(topic, keys)
    await bus.publish_batch(messages[:45])
    broken = bus.producer
    for partition in list(broken._txn_manager._sequence_numbers):
        broken._txn_manager.increment_sequence_number(partition, 10)
    assert all(outcome.acknowledged for outcome in await bus.publish_batch(messages[45:]))
    assert bus.producer is not broken
    by_key: defaultdict[bytes, list[int]] = defaultdict(list)
    for record in await read_back(topic):
        by_key[record.key].append(int(record.value))
    assert by_key == {f"k{first}".encode(): list(range(first, 90, 9)) for first in range(9)}


async def test_without_a_broker_everything_is_transient() -> None:
    """A bus that cannot start raises nothing: each outcome carries the connection error."""
    config = KafkaBusConfig(start_timeout_s=1)
    bus = KafkaBus(client_id="dead", bootstrap_servers="127.0.0.1:1", config=config)
    outcomes = await bus.publish_batch(_messages("t", ["a", "b"]))
    assert [type(outcome.error) for outcome in outcomes] == [KafkaUnreachableError] * 2
    assert all(outcome.transient for outcome in outcomes)


async def test_an_outage_doubles_and_reorders_nothing(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """What timed out during an outage is sent again by the caller, and arrives once and in order."""
    topic = kafka_topic()
    config = KafkaBusConfig(request_timeout_s=1, publish_timeout_s=1.5, batch_size=500)
    async with KafkaBus(client_id="outage", bootstrap_servers=real_kafka.address, config=config) as bus:
        messages = _messages(topic, ["k"] * 20, size=100)
        assert all(outcome.acknowledged for outcome in await bus.publish_batch(messages[:5]))
        try:
            await asyncio.to_thread(real_kafka.stop)
        except NotOursError as error:
            pytest.skip(str(error))
        try:
            first = await bus.publish_batch(messages[5:])
            second = await bus.publish_batch(messages[5:])
        finally:
            await asyncio.to_thread(real_kafka.start)
        assert all(outcome.transient for outcome in first + second)
        assert isinstance(first[0].error, PublishTimeoutError)
        assert first[0].attempted
        assert [outcome.attempted for outcome in second] == [False] * 15
        remaining = messages[5:]
        for _ in range(20):
            outcomes = await bus.publish_batch(remaining)
            remaining = [m for m, outcome in zip(remaining, outcomes, strict=True) if not outcome.acknowledged]
            if not remaining:
                break
    assert _numbers(await read_back(topic)) == list(range(20))


async def test_a_cancelled_batch_is_settled_by_the_next(
    bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any
) -> None:
    """Cancelling in mid-flight loses nothing: the same messages, sent again, arrive once."""
    topic = kafka_topic()
    messages = _messages(topic, ["k"] * 50)
    await bus.publish_batch(messages[:1])
    task = asyncio.create_task(bus.publish_batch(messages[1:]))
    await _until_taken(bus)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    outcomes = await bus.publish_batch(messages[1:])
    assert all(outcome.acknowledged for outcome in outcomes)
    assert _numbers(await read_back(topic)) == list(range(50))


async def test_stop_during_an_outage_is_bounded(real_kafka: KafkaServer, kafka_topic: TopicFactory) -> None:
    """An idempotent producer would retry for ever; stop() breaks it off, and the caller gets an outcome."""
    topic = kafka_topic()
    config = KafkaBusConfig(request_timeout_s=1, publish_timeout_s=30, stop_timeout_s=1)
    bus = KafkaBus(client_id="outage", bootstrap_servers=real_kafka.address, config=config)
    await bus.start()
    await bus.publish_batch(_messages(topic, ["k"]))
    try:
        await asyncio.to_thread(real_kafka.stop)
    except NotOursError as error:
        pytest.skip(str(error))
    try:
        task = asyncio.create_task(bus.publish_batch(_messages(topic, ["k", "k"])))
        await _until_taken(bus)
        async with asyncio.timeout(20):  # publish_timeout_s alone would be 30
            await bus.stop()
            outcomes = await task
        assert all(outcome.transient for outcome in outcomes)
    finally:
        await asyncio.to_thread(real_kafka.start)
