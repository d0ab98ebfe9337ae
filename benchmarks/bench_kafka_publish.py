"""Publishing to a real broker: one event at a time from 1, 50 and 1 000 tasks, and in batches.

Run by ``make bench SUBJECT=kafka_publish``. Every producer waits for all in-sync replicas and is idempotent, and each
encodes the same events, as a service does. aiokafka stands as it comes (record batches of 16 KiB, no linger), which is the
one that collapses when 1 000 tasks publish; and with batches as large as ours, which costs it less. confluent-kafka's asyncio producer takes no headers, so nobody sends any here;
it holds messages back to batch them (fewer than ten arrive in a second from one task), so only many tasks are fair to it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from confluent_kafka.aio import AIOProducer

from common_core import EventEnvelope
from harness import Call, Figure, in_short, measure, rates_of, versions_of, write_result
from huleedu_service_libs.kafka.encoding import encode_envelope
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.protocols import OutgoingMessage
from huleedu_service_libs.testing.devstack import DevStack

PEERS = ["aiokafka", "confluent-kafka"]
TOPIC, PARTITIONS = "bench", 6
TASKS = {1: in_short(200, 10), 50: in_short(3_000, 100), 1_000: in_short(4_000, 1_000)}  # tasks at once: events a round
BATCH = 2_000
ROUNDS = 15

OURS = "ours: KafkaBus.publish"
BARE = "aiokafka: send_and_wait"
ENCODED = "aiokafka: send_and_wait, bytes made before"
LARGE = "aiokafka: send_and_wait, batches of 256 KiB"
CONFLUENT = "confluent-kafka: AIOProducer"

Publish = Callable[[int], Awaitable[Any]]


def _event(number: int) -> EventEnvelope[Any]:
    data = {"essay_id": f"essay-{number}", "student_id": "s" * 36, "text": "word " * 60, "scores": [1, 2, 3]}
    return EventEnvelope(event_type="essay.submitted.v1", source_service="bench", data=data)


EVENTS = [_event(number) for number in range(100)]
BYTES = [encode_envelope(event) for event in EVENTS]
KEYS = [f"essay-{number}" for number in range(100)]


async def _create_topic(address: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])
    finally:
        await admin.close()


async def _publishers(address: str, stack: AsyncExitStack) -> tuple[dict[str, Publish], KafkaBus]:
    bus = await stack.enter_async_context(KafkaBus(client_id="bench", bootstrap_servers=address))
    bare = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True)
    large = AIOKafkaProducer(bootstrap_servers=address, acks="all", enable_idempotence=True, max_batch_size=256 * 1024)
    for producer in (bare, large):
        await producer.start()
        stack.push_async_callback(producer.stop)
    confluent = AIOProducer(
        {"bootstrap.servers": address, "acks": "all", "enable.idempotence": True, "linger.ms": 0},
        buffer_timeout=0.01,  # by default it holds messages back for a second
    )
    stack.push_async_callback(confluent.close)

    async def by_confluent(number: int) -> None:
        delivered = await confluent.produce(TOPIC, value=encode_envelope(EVENTS[number]), key=KEYS[number].encode())
        await delivered

    publishers: dict[str, Publish] = {
        OURS: lambda number: bus.publish(TOPIC, EVENTS[number], KEYS[number]),
        BARE: lambda number: bare.send_and_wait(
            TOPIC, value=encode_envelope(EVENTS[number]), key=KEYS[number].encode()
        ),
        LARGE: lambda number: large.send_and_wait(
            TOPIC, value=encode_envelope(EVENTS[number]), key=KEYS[number].encode()
        ),
        ENCODED: lambda number: bare.send_and_wait(TOPIC, value=BYTES[number], key=KEYS[number].encode()),
        CONFLUENT: by_confluent,
    }
    return publishers, bus


def _from_tasks(publish: Publish, tasks: int, events: int) -> Call:
    """Tasks at once, each publishing one event after the other."""

    async def worker(first: int) -> None:
        for number in range(first, events, tasks):
            await publish(number % 100)

    async def run() -> None:
        await asyncio.gather(*(worker(first) for first in range(tasks)))

    return run


def _batches(bus: KafkaBus) -> dict[str, Call]:
    """The same events as one batch, and one by one from one task."""

    async def batch() -> None:
        messages = [
            OutgoingMessage(topic=TOPIC, value=encode_envelope(EVENTS[number % 100]), key=KEYS[number % 100].encode())
            for number in range(BATCH)
        ]
        outcomes = await bus.publish_batch(messages)
        if not all(outcome.acknowledged for outcome in outcomes):
            raise RuntimeError("a message was not acknowledged")

    return {"ours: publish_batch": batch}


async def main() -> None:
    """Measure, print, write."""
    logging.disable(logging.CRITICAL)
    configure_service_logging("bench", log_level="CRITICAL")
    result: dict[str, Any] = {}
    with DevStack(["kafka"], progress=print) as servers:
        address = servers.kafka.address
        await _create_topic(address)
        async with AsyncExitStack() as stack:
            publishers, bus = await _publishers(address, stack)
            for tasks, events in TASKS.items():
                fair = {name: each for name, each in publishers.items() if name != CONFLUENT or tasks == max(TASKS)}
                calls = {name: _from_tasks(publish, tasks, events) for name, publish in fair.items()}
                print(f"{tasks} tasks at once, {events} events a round", flush=True)
                figures = await measure(calls, rounds=ROUNDS, calls=1)
                result[f"{tasks} tasks"] = _show(
                    f"{tasks} tasks at once", figures, dict.fromkeys(figures, events), OURS
                )
            batches = {**_batches(bus), "ours: one by one": _from_tasks(publishers[OURS], 1, TASKS[1])}
            sizes = {"ours: publish_batch": BATCH, "ours: one by one": TASKS[1]}
            figures = await measure(batches, rounds=ROUNDS, calls=1)
            result["batches"] = _show("a batch", figures, sizes, "ours: publish_batch")
    content = {"unit": "events per second (median of interleaved rounds)", "parts": result}
    print(f"\n{write_result('kafka_publish', {**content, 'versions': versions_of(PEERS)})}")


def _show(title: str, figures: dict[str, Figure], events: dict[str, int], first: str) -> dict[str, Any]:
    rows = rates_of(figures, events)
    print(f"\n{title}\n  {'':<46}{'events/s':>10}{'±':>10}{'best':>10}{'ours is':>10}")
    for name, row in rows.items():
        ratio = rows[first]["median"] / row["median"]
        print(f"  {name:<46}{row['median']:>10.0f}{row['spread']:>10.0f}{row['best']:>10.0f}{ratio:>9.2f}x")
    return rows


if __name__ == "__main__":
    asyncio.run(main())
