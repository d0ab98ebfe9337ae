"""Redrive on real Kafka: what goes back, what stays, and where the next run begins. And idempotency before handlers."""

from typing import Any

import pytest

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.kafka.consumer import Delivery, RetryPolicy, redrive
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from ..waiting import until
from .conftest import EVENT_TYPE, MakeConsumer, Numbered, ReadTopic, Send, numbered

pytestmark = pytest.mark.integration


async def test_dead_letters_go_back_and_are_processed_once(
    make_consumer: MakeConsumer,
    kafka_topic: TopicFactory,
    send: Send,
    bus: KafkaBus,
    real_kafka: KafkaServer,
    read_topic: ReadTopic,
    redis_url: str,
    redis_prefix: str,
) -> None:
    """After the cause is mended they have their effect; events that were processed before have no second one."""
    topic = kafka_topic("numbers")
    messages = [numbered(topic, n, f"key-{n}") for n in range(6)]
    await send(*messages)
    mended = False
    seen: list[int] = []
    async with RedisClient(client_id="test", redis_url=redis_url) as redis:
        step = IdempotentStep(redis, IdempotencyConfig("t", key_prefix=redis_prefix, in_progress="wait"))
        consumer = make_consumer(topic, steps=[step], retry=RetryPolicy(attempts=1))

        @consumer.on(EVENT_TYPE, model=Numbered)
        async def handle(delivery: Delivery[Numbered]) -> None:
            if delivery.data.number % 2 and not mended:
                raise RuntimeError("broken")
            seen.append(delivery.data.number)

        await consumer.start()
        letters_topic = consumer.config.dead_letter_topic_of(topic)
        await read_topic(letters_topic, 3)
        await until(lambda: sorted(seen) == [0, 2, 4])
        mended = True
        place: Any = {"bootstrap_servers": real_kafka.address, "publisher": bus}

        looked = await redrive(letters_topic, dry_run=True, **place)
        first = await redrive(letters_topic, most=1, **place)
        rest = await redrive(letters_topic, choose=lambda letter: letter.key != "key-5", **place)
        again = await redrive(letters_topic, **place)
        await send(messages[0])  # a duplicate, and behind it the proof that it was looked at
        await send(numbered(topic, 6, "key-0"))
        await until(lambda: 6 in seen)
        await until(lambda: len(seen) == 6)
    assert (looked.redriven, looked.finished) == (3, True)
    assert (first.redriven, first.finished) == (1, False)
    assert (rest.redriven, rest.passed_over, rest.finished) == (1, 1, True)
    assert again.redriven == 0
    assert sorted(seen) == [0, 1, 2, 3, 4, 6]
    back = [record for record in await read_topic(topic, 10) if record.offset >= 6]
    assert all(not name.startswith("failure_") for record in back for name, _ in record.headers)


async def test_a_redrive_that_cannot_publish_begins_there_the_next_time(
    make_consumer: MakeConsumer,
    kafka_topic: TopicFactory,
    send: Send,
    bus: KafkaBus,
    real_kafka: KafkaServer,
    read_topic: ReadTopic,
) -> None:
    """It ends with the reason; nothing is lost, and what was acknowledged is not sent again."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, "a") for n in range(3)])
    consumer = make_consumer(topic, retry=RetryPolicy(attempts=1))

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        raise RuntimeError("broken")

    await consumer.start()
    letters_topic = consumer.config.dead_letter_topic_of(topic)
    await read_topic(letters_topic, 3)
    await consumer.stop()

    class SecondFails:
        calls = 0

        async def publish_batch(self, messages: Any) -> Any:
            self.calls += 1
            if self.calls == 2:
                return [type("Outcome", (), {"error": ConnectionError("away")})()]
            return await bus.publish_batch(messages)

    broken = await redrive(letters_topic, bootstrap_servers=real_kafka.address, publisher=SecondFails())
    rest = await redrive(letters_topic, bootstrap_servers=real_kafka.address, publisher=bus)
    assert (broken.redriven, broken.error) == (1, "ConnectionError: away")
    assert (rest.redriven, rest.by_origin, rest.finished) == (2, {topic: 2}, True)
    assert len(await read_topic(topic, 6)) == 6


def test_a_step_that_may_lose_events_is_refused() -> None:
    """`skip` commits the offset of an event that another worker may still fail to process."""
    with pytest.raises(ValueError, match="in_progress='wait'"):
        IdempotentStep(RedisClient(client_id="t", redis_url="redis://nowhere"), IdempotencyConfig("t"))
