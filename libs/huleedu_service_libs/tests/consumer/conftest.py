"""Events on the session's Kafka, consumers that are stopped at the end, and a way to look at topics."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from pydantic import BaseModel

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.consumer import ConsumerConfig, EventConsumer
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import OutgoingMessage
from huleedu_service_libs.testing.devstack.servers import KafkaServer

from ..topics import read_all

EVENT_TYPE = "huleedu.test.numbered.v1"


class Numbered(BaseModel):
    """The event of these tests."""

    number: int


def numbered(topic: str, number: int, key: str | None = None, **headers: str) -> OutgoingMessage:
    """One event as it goes over the wire, with the standard headers that consumers look at."""
    envelope = EventEnvelope[Numbered](event_type=EVENT_TYPE, source_service="test", data=Numbered(number=number))
    texts = {"event_id": str(envelope.event_id), "event_type": EVENT_TYPE, **headers}
    return OutgoingMessage(
        topic=topic,
        value=envelope.model_dump_json().encode(),
        key=None if key is None else key.encode(),
        headers=[(name, text.encode()) for name, text in texts.items()],
    )


@pytest.fixture(name="bus")
async def _bus(real_kafka: KafkaServer) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(client_id="test", bootstrap_servers=real_kafka.address) as bus:
        yield bus


Send = Callable[..., Awaitable[None]]


@pytest.fixture(name="send")
def _send(bus: KafkaBus) -> Send:
    """Publishes messages and waits for the acknowledgements."""

    async def send(*messages: OutgoingMessage) -> None:
        outcomes = await bus.publish_batch(messages)
        assert all(outcome.acknowledged for outcome in outcomes)

    return send


MakeConsumer = Callable[..., EventConsumer]


@pytest.fixture(name="make_consumer")
async def _make_consumer(real_kafka: KafkaServer, bus: KafkaBus) -> AsyncIterator[MakeConsumer]:
    """Makes consumers of a group; those that run at the end of the test are stopped."""
    made: list[EventConsumer] = []
    group = f"group-{uuid4().hex[:8]}"

    def make(*topics: str, publisher: Any = bus, steps: Any = (), **options: Any) -> EventConsumer:
        defaults = {"group_id": group, "commit_interval_s": 0.05, "session_timeout_s": 6.0, "drain_timeout_s": 5.0}
        config = ConsumerConfig(topics=topics, **{**defaults, **options})
        made.append(EventConsumer(config, bootstrap_servers=real_kafka.address, publisher=publisher, steps=steps))
        return made[-1]

    yield make
    for consumer in made:
        await consumer.stop()


ReadTopic = Callable[..., Awaitable[list[Any]]]


@pytest.fixture(name="read_topic")
def _read_topic(real_kafka: KafkaServer) -> ReadTopic:
    """Everything that a topic holds, once it holds ``least`` records."""
    return partial(read_all, real_kafka.address)


Committed = Callable[[str, str], Awaitable[dict[int, int]]]


@pytest.fixture(name="committed")
def _committed(real_kafka: KafkaServer) -> Committed:
    """The committed offsets of a group on a topic, by partition."""

    async def look(group: str, topic: str) -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=real_kafka.address, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(
                [
                    TopicPartition(topic, n)
                    for n in consumer.partitions_for_topic(topic) or await _known(consumer, topic)
                ]
            )
            offsets = {tp.partition: await consumer.committed(tp) for tp in consumer.assignment()}
            return {partition: offset for partition, offset in offsets.items() if offset is not None}
        finally:
            await consumer.stop()

    return look


async def _known(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await consumer._client.add_topic(topic)
    await consumer._client.force_metadata_update()
    found: set[int] = consumer.partitions_for_topic(topic)
    return found
