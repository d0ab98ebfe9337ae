"""What the run left in Kafka and PostgreSQL, and messages sent once more.

Reads with clients of its own, so that a fault of the services' cannot hide itself.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord, TopicPartition

from essay_pipeline.demo.oracle import KafkaEvent

__all__ = ["as_event", "read_database", "read_topic", "replay", "wait_until_consumed"]

_POLL_MS = 300
_STOP_S = 3.0


async def read_topic(bootstrap_servers: str, topic: str) -> list[ConsumerRecord[bytes, bytes]]:
    """All records that are in ``topic`` now, partition by partition, each in order."""
    async with _reader(bootstrap_servers, [topic]) as consumer:
        partitions = sorted(consumer.assignment())
        ends = await consumer.end_offsets(partitions)
        records: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]] = {each: [] for each in partitions}
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for partition, batch in (await consumer.getmany(timeout_ms=_POLL_MS)).items():
                records[partition].extend(batch)
    return [record for batch in records.values() for record in batch]


def as_event(record: ConsumerRecord[bytes, bytes]) -> KafkaEvent:
    """What the oracle wants to know of a record."""
    envelope = json.loads(record.value or b"{}")
    return KafkaEvent(event_id=envelope["event_id"], essay_id=envelope["data"]["essay_id"])


async def replay(
    bootstrap_servers: str, records: Sequence[ConsumerRecord[bytes, bytes]], *, idempotent: bool
) -> Mapping[str, int]:
    """Send records again: the same key, bytes and headers to the same partition.

    Returns:
        How often each event id was sent.
    """
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=idempotent)
    await producer.start()
    try:
        for record in records:
            await producer.send_and_wait(
                record.topic,
                value=record.value,
                key=record.key,
                headers=list(record.headers),
                partition=record.partition,
            )
    finally:
        # It would wait for a broker that has gone.
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_S):
                await producer.stop()
    return Counter(as_event(record).event_id for record in records)


async def wait_until_consumed(
    bootstrap_servers: str, groups: Mapping[str, Sequence[str]], *, check: Callable[[], None], sleep: float = 0.2
) -> None:
    """Wait until every group has committed all that its topics hold.

    Args:
        bootstrap_servers: Where Kafka is.
        groups: Topics by group.
        check: Called between looks; raises to give up.
        sleep: Seconds between looks.
    """
    everything = {topic for topics in groups.values() for topic in topics}
    async with _reader(bootstrap_servers, everything) as consumer, _admin(bootstrap_servers) as admin:
        for group, topics in groups.items():
            while not await _is_consumed(consumer, admin, group, topics):
                check()
                await asyncio.sleep(sleep)  # noqa: TID251  # there is nothing to be woken by


async def read_database(address: str, queries: Mapping[str, str]) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of each query, by its name."""
    connection = await asyncpg.connect(address)
    try:
        return {name: [tuple(row) for row in await connection.fetch(query)] for name, query in queries.items()}
    finally:
        await connection.close()


async def _is_consumed(
    consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient, group: str, topics: Sequence[str]
) -> bool:
    partitions = [each for each in consumer.assignment() if each.topic in topics]
    ends = await consumer.end_offsets(partitions)
    committed = await admin.list_consumer_group_offsets(group, partitions=partitions)
    return all(committed[each].offset >= ends[each] for each in partitions if ends[each] > 0)


@asynccontextmanager
async def _reader(bootstrap_servers: str, topics: Collection[str]) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of no group, at the beginning of every partition of ``topics``."""
    consumer = AIOKafkaConsumer(
        *topics, bootstrap_servers=bootstrap_servers, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        missing = set(topics) - {each.topic for each in consumer.assignment()}
        if missing:
            raise LookupError(f"Kafka does not know the topics {sorted(missing)}")
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def _admin(bootstrap_servers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
