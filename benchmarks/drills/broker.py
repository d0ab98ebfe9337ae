"""A Kafka broker that is stopped for a while, while twenty writers publish through the resilient publisher."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from common_core import EventEnvelope
from drills.series import Series
from huleedu_service_libs.kafka import FallbackMessageHandler, ResilientKafkaPublisher
from huleedu_service_libs.kafka.driver_errors import KafkaError
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.resilience import CircuitBreaker
from huleedu_service_libs.testing.devstack import DevStack, KafkaServer

__all__ = ["DOWN", "SECONDS", "Verdict", "run"]

SECONDS = 26.0
DOWN = (5.0, 13.0)
WRITERS, RATE_EACH = 20, 10
TOPIC = "drill"


@dataclass(frozen=True)
class Verdict:
    """What the topic held in the end.

    Attributes:
        published: Messages handed to the publisher.
        lost: Never arrived.
        duplicated: Further copies of what had arrived.
        out_of_order: First arrivals that came before an earlier one of their key.
        waiting: Still in the queue.
    """

    published: int
    lost: int
    duplicated: int
    out_of_order: int
    waiting: int


async def run() -> tuple[Series, Verdict]:
    """Start a broker, load it, stop it, start it again, read everything back."""
    with DevStack(["kafka"], progress=print) as stack:
        return await _drill(stack.kafka)


async def _drill(kafka: KafkaServer) -> tuple[Series, Verdict]:
    await _create_topic(kafka.address)
    series = Series()
    publisher = _publisher(kafka.address, series)
    published: dict[str, list[int]] = {f"key-{number}": [] for number in range(WRITERS)}
    async with publisher:
        series.restart()  # the clock starts when the bus is connected
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_outage(kafka, series))
            tasks.create_task(_watch(publisher, series))
            for key, sent in published.items():
                tasks.create_task(_write(publisher, key, sent, series))
    arrived = await _read_back(kafka.address)
    return series, _verdict(published, arrived, publisher.get_fallback_queue_size())


def _publisher(address: str, series: Series) -> ResilientKafkaPublisher:
    breaker = CircuitBreaker(
        failure_threshold=5,
        recovery_timeout=timedelta(seconds=2),
        success_threshold=3,
        expected_exception=KafkaError,
        name="drill.kafka_producer",
        listeners=[lambda change: series.state(change.new.value)],
    )
    config = KafkaBusConfig(request_timeout_s=1, publish_timeout_s=1.5)
    bus = KafkaBus(client_id="drill", bootstrap_servers=address, config=config)
    return ResilientKafkaPublisher(bus, breaker, FallbackMessageHandler(10_000), retry_interval=1)


async def _outage(kafka: KafkaServer, series: Series) -> None:
    await asyncio.sleep(DOWN[0])  # noqa: TID251  # the load of a drill goes by the real clock
    await asyncio.to_thread(kafka.stop)
    await asyncio.sleep(max(0.0, DOWN[1] - series.now))  # noqa: TID251  # as above
    await asyncio.to_thread(kafka.start)
    series.count("broker back")


async def _watch(publisher: ResilientKafkaPublisher, series: Series) -> None:
    while series.now < SECONDS:
        series.counts["waiting"][int(series.now / 0.25)] = publisher.get_fallback_queue_size()
        await asyncio.sleep(0.05)  # noqa: TID251  # as above


async def _write(publisher: ResilientKafkaPublisher, key: str, sent: list[int], series: Series) -> None:
    """One message after the other; a failure is not repeated, as the publisher keeps the message."""
    number = 0
    while series.now < SECONDS - 4:
        event: EventEnvelope[Any] = EventEnvelope(event_type="drill.v1", source_service="drill", data={"n": number})
        before = publisher.get_fallback_queue_size()
        sent.append(number)
        try:
            await publisher.publish(TOPIC, event, key)
        except KafkaError:
            series.count("raised")
        else:
            series.count("queued" if publisher.get_fallback_queue_size() > before else "acknowledged")
        number += 1
        await asyncio.sleep(1 / RATE_EACH)  # noqa: TID251  # as above


async def _create_topic(address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 4, 1)])
    await admin.close()


async def _read_back(address: str) -> dict[str, list[int]]:
    consumer = AIOKafkaConsumer(TOPIC, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    arrived: defaultdict[str, list[int]] = defaultdict(list)
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    event = EventEnvelope[Any].model_validate_json(record.value)
                    arrived[record.key.decode()].append(event.data["n"])
    finally:
        await consumer.stop()
    return arrived


def _verdict(published: dict[str, list[int]], arrived: dict[str, list[int]], waiting: int) -> Verdict:
    lost = duplicated = out_of_order = 0
    for key, numbers in published.items():
        firsts = list(dict.fromkeys(arrived.get(key, [])))
        lost += len(set(numbers) - set(firsts))
        duplicated += len(arrived.get(key, [])) - len(firsts)
        out_of_order += sum(later < earlier for earlier, later in pairwise(firsts))
    return Verdict(sum(map(len, published.values())), lost, duplicated, out_of_order, waiting)
