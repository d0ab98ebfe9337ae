"""Kafka shared with producers and consumers of the earlier library: messages of every kind, groups, offsets."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.inbox import Inbox, InboxConfig, InboxStep
from huleedu_service_libs.inbox.models import Base as InboxBase
from huleedu_service_libs.kafka.consumer import ConsumerConfig, ConsumerSetupError, Delivery, EventConsumer
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreaker

from ..databases import engine_with
from ..topics import read_all
from ..waiting import until
from .earlier import EarlierWorker, envelope, key_of, read_message, record_at

pytestmark = pytest.mark.integration

EVENT_TYPE = "huleedu.test.moved.v1"


class Moved(BaseModel):
    """The event of these tests."""

    n: int


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    async with engine_with(InboxBase.metadata, postgres_database) as engine:
        yield engine


def consumer_of(topic: str, group: str, address: str, seen: Counter[int], **more: Any) -> EventConsumer:
    """Our consumer, which counts what it has handled."""
    options = {"commit_interval_s": 0.05, "session_timeout_s": 6.0, "drain_timeout_s": 2.0, **more.pop("options", {})}
    config = ConsumerConfig(group_id=group, topics=(topic,), **options)
    consumer = EventConsumer(config, bootstrap_servers=address, **more)

    @consumer.on(EVENT_TYPE, model=Moved)
    async def handle(delivery: Delivery[Moved]) -> None:
        await asyncio.sleep(0.002)
        seen[delivery.data.n] += 1

    return consumer


@asynccontextmanager
async def earlier_consumer(topic: str, group: str, address: str, seen: Counter[int]) -> AsyncIterator[None]:
    """A loop of a service's own, with the driver's defaults: it handles, and commits."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=address,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
    )
    await consumer.start()

    idle = asyncio.Event()

    async def loop() -> None:
        async for record in consumer:
            idle.clear()
            seen[read_message(record)["data"]["n"]] += 1
            await asyncio.sleep(0.002)
            await consumer.commit()
            idle.set()

    running = asyncio.create_task(loop())
    try:
        yield
        assert not running.done(), running
    finally:
        await asyncio.wait([asyncio.create_task(idle.wait()), running], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        running.cancel()  # what it has handled is committed
        await asyncio.wait([running])
        await consumer.stop()


def _has(seen: Counter[int], count: int) -> bool:
    return len(seen) == count


def text_of(fields: dict[str, Any]) -> bytes:
    """As the earlier producer's serializer wrote it."""
    return json.dumps(fields).encode("utf-8")


def messages_of_ever() -> dict[str, tuple[bytes, list[tuple[str, bytes]] | None]]:
    """Bodies and headers as they are in the topics, numbered by their place."""
    least = {"event_type": EVENT_TYPE, "source_service": "s", "data": {"n": 3}}
    id_alone, both = envelope({"n": 4}), envelope({"n": 6})
    type_header = ("event_type", EVENT_TYPE.encode())
    return {
        "no headers": (text_of(envelope({"n": 0})), None),
        "fields of a later version": (text_of(envelope({"n": 1}) | {"added_later": [1]}), []),
        "metadata": (text_of(envelope({"n": 2}, metadata={"partition_key": "k", "traceparent": "none"})), None),
        "optional fields missing": (text_of(least), None),
        "id alone in the headers": (text_of(id_alone), [("event_id", id_alone["event_id"].encode())]),
        "type alone in the headers": (text_of(envelope({"n": 5})), [type_header]),
        "both in the headers": (text_of(both), [("event_id", both["event_id"].encode()), type_header]),
        "a header of somebody else": (text_of(envelope({"n": 7})), [("x-tenant", b"\xff\x00")]),
    }


@pytest.mark.parametrize("way", ["redis", "inbox", "both"])
async def test_messages_of_ever_are_handled(
    way: str,
    engine: AsyncEngine,
    client: RedisClient,
    producer: AIOKafkaProducer,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
    unique_name: str,
) -> None:
    """Each form of a message is handled once although it is there twice, and none is set aside, with Redis, inbox or both."""
    topic, messages, seen = kafka_topic("old"), messages_of_ever(), Counter[int]()
    redis_step = IdempotentStep(client, IdempotencyConfig(unique_name, in_progress="wait"))
    inbox_step = InboxStep(Inbox(async_sessionmaker(engine), InboxConfig(consumer=unique_name)))
    steps = {"redis": [redis_step], "inbox": [inbox_step], "both": [redis_step, inbox_step]}[way]
    for body, headers in messages.values():
        for _ in range(2):
            await producer.send_and_wait(topic, body, key=b"k", headers=headers)
    bus = KafkaBus(client_id="letters", bootstrap_servers=kafka_bootstrap_servers)
    consumer = consumer_of(topic, unique_name, kafka_bootstrap_servers, seen, steps=steps, publisher=bus)
    async with bus, consumer:
        await producer.send_and_wait(topic, text_of(envelope({"n": 100})), key=b"k")
        await until(lambda: 100 in seen)
    assert seen == Counter([*range(8), 100])


async def test_earlier_consumers_read_what_we_publish(
    bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """By `publish`, with headers and without, and through the resilient publisher: fields, keys and headers as ever."""
    topic = kafka_topic("new")
    resilient = ResilientKafkaPublisher(bus, CircuitBreaker(name="moving"))
    sent: list[EventEnvelope[Any]] = [
        EventEnvelope(event_type=EVENT_TYPE, source_service="å", data={"n": n, "text": "Räksmörgås"}) for n in range(4)
    ]
    await bus.publish(topic, sent[0])
    await bus.publish(topic, sent[1], key="k", headers={"event_id": str(sent[1].event_id)})
    await resilient.publish(topic, sent[2], "k")
    await bus.publish_event(topic, sent[3], "k", {})
    records = await read_all(kafka_bootstrap_servers, topic)
    read = [read_message(record) for record in records]
    assert read == [event.model_dump(mode="json") for event in sent]
    assert [record.key for record in records] == [None, b"k", b"k", b"k"]
    assert [len(record.headers) for record in records] == [0, 1, 0, 0]


async def test_offsets_are_taken_over_there_and_back(
    producer: AIOKafkaProducer, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str, unique_name: str
) -> None:
    """Where a group's loop is replaced by our consumer, and that by the loop again, each event is handled once."""
    topic, seen = kafka_topic("offsets", partitions=3), Counter[int]()

    async def send(first: int) -> None:
        for n in range(first, first + 50):
            await producer.send_and_wait(topic, text_of(envelope({"n": n})), key=str(n % 9).encode())

    for first in (0, 100):
        await send(first)
        async with earlier_consumer(topic, unique_name, kafka_bootstrap_servers, seen):
            await until(partial(_has, seen, first + 50))
        await asyncio.sleep(0.2)
        await send(first + 50)
        async with consumer_of(topic, unique_name, kafka_bootstrap_servers, seen):
            await until(partial(_has, seen, first + 100))
    assert seen == Counter(range(200))


async def test_one_group_has_members_of_both(
    producer: AIOKafkaProducer, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str, unique_name: str
) -> None:
    """A rolling replacement: our consumer joins a group of loops of the service's own, works beside them, and outlives them."""
    topic, old, new = kafka_topic("group", partitions=4), Counter[int](), Counter[int]()
    numbers, stop = iter(range(100_000)), asyncio.Event()

    async def keep_sending() -> int:
        sent = 0
        while not stop.is_set():
            sent = next(numbers)
            await producer.send_and_wait(topic, text_of(envelope({"n": sent})), key=str(sent % 16).encode())
            await asyncio.sleep(0.01)
        return sent + 1

    sending = asyncio.create_task(keep_sending())
    consumer = consumer_of(topic, unique_name, kafka_bootstrap_servers, new, options={"assignment": "roundrobin"})
    async with earlier_consumer(topic, unique_name, kafka_bootstrap_servers, old):
        await until(lambda: len(old) > 20)
        await consumer.start()
        await until(lambda: len(new) > 20)
        before = len(old)
        await until(lambda: len(old) > before + 20)
    before = len(new)
    await until(lambda: len(new) > before + 50)  # all partitions are ours now
    stop.set()
    total = await sending
    await until(lambda: len(old.keys() | new.keys()) == total)
    await consumer.stop()
    assert old.keys() | new.keys() == set(range(total))


@pytest.mark.parametrize("assignment", ["sticky", "range"])
async def test_a_group_that_shares_out_otherwise_is_named(
    assignment: str, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str, unique_name: str
) -> None:
    """Where the members cannot agree on a way to share out partitions, the start fails and says what to do."""
    topic, seen = kafka_topic("otherwise"), Counter[int]()
    consumer = consumer_of(topic, unique_name, kafka_bootstrap_servers, seen, options={"assignment": assignment})
    async with earlier_consumer(topic, unique_name, kafka_bootstrap_servers, seen):
        with pytest.raises(ConsumerSetupError, match=rf"{unique_name}.*assignment='{assignment}': give all of them"):
            await consumer.start()


async def test_no_promise_for_what_only_the_inbox_knows(
    engine: AsyncEngine,
    client: RedisClient,
    driver: Redis,
    producer: AIOKafkaProducer,
    kafka_topic: Callable[..., str],
    kafka_bootstrap_servers: str,
    unique_name: str,
) -> None:
    """After a roll back an earlier worker knows what Redis knows: with both steps everything, with the inbox alone nothing."""

    async def handler(_confirm: Callable[[], Awaitable[None]]) -> str:
        return "again"

    sessions, answers, records = async_sessionmaker(engine), {}, {}
    redis_step = IdempotentStep(client, IdempotencyConfig(unique_name, in_progress="wait"))
    for name, more in (("inbox", []), ("both", [redis_step])):
        topic, seen = kafka_topic(name), Counter[int]()
        await producer.send_and_wait(topic, text_of(envelope({"n": 1})))
        steps = [*more, InboxStep(Inbox(sessions, InboxConfig(consumer=f"{unique_name}-{name}")))]
        async with consumer_of(topic, f"{unique_name}-{name}", kafka_bootstrap_servers, seen, steps=steps):
            await until(partial(_has, seen, 1))
        (records[name],) = await read_all(kafka_bootstrap_servers, topic)
        answers[name] = await EarlierWorker(driver, unique_name).deliver(records[name], handler)
    assert answers == {"inbox": "again", "both": None}
    assert (await record_at(driver, key_of(unique_name, records["both"])))["status"] == "completed"
    UUID(read_message(records["both"])["event_id"])
