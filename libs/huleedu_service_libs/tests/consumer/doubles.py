"""Doubles of a consumer: a driver over logs in memory, a publisher that keeps letters, and a consumer on them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka.structs import ConsumerRecord, TopicPartition

from huleedu_service_libs.kafka.consumer import (
    ConsumerConfig,
    EventConsumer,
)
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

from .conftest import EVENT_TYPE, Numbered, numbered

P0 = TopicPartition("t", 0)
P1 = TopicPartition("t", 1)


def record(
    partition: TopicPartition, offset: int, key: bytes | None = b"k", value: bytes | None = b""
) -> ConsumerRecord[bytes, bytes]:
    """A record whose event holds its offset."""
    message = numbered("t", offset)
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=key,
        value=message.value if value == b"" else value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=tuple(message.headers),
    )


class FakeDriver:
    """Kafka's consumer as the session uses it: a log per partition, positions and commits."""

    def __init__(self, log: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]) -> None:
        self.log = log
        self.positions = dict.fromkeys(log, 0)
        self.committed: dict[TopicPartition, int] = {}
        self.listener: Any = None
        self.commit_errors: list[BaseException] = []
        self.poll_errors: list[BaseException] = []
        self.start_error: Exception | None = None
        self.made = 0
        self.stopped = 0
        self.stop_takes_s = 0.0
        self.begin: dict[TopicPartition, int] = {}
        self.unread: set[TopicPartition] = set()

    def __call__(self, *_: Any, listener: Any, **__: Any) -> "FakeDriver":
        self.listener = listener
        self.made += 1
        self.positions = {p: self.committed.get(p, self.begin.get(p, 0)) for p in self.log}
        return self

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error

    async def stop(self) -> None:
        await asyncio.sleep(self.stop_takes_s)
        self.stopped += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self.log)

    def highwater(self, partition: TopicPartition) -> int:
        return len(self.log[partition])

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    def pause(self, *_: TopicPartition) -> None: ...

    def resume(self, *_: TopicPartition) -> None: ...

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        await asyncio.sleep(0.001)
        if self.poll_errors:
            raise self.poll_errors.pop(0)
        batch = {
            p: [r for r in records if r.offset >= self.positions[p]][:max_records]
            for p, records in self.log.items()
            if (not partitions or p in partitions) and p not in self.unread
        }
        for partition, records in batch.items():
            if records:
                self.positions[partition] = records[-1].offset + 1
        return {partition: records for partition, records in batch.items() if records}

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if self.commit_errors:
            raise self.commit_errors.pop(0)
        self.committed.update(offsets)


class Letters:
    """A publisher that keeps what it is given."""

    def __init__(self, *refusals: Exception) -> None:
        self.sent: list[OutgoingMessage] = []
        self.refusals = list(refusals)

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        if self.refusals:
            return [DeliveryOutcome(error=self.refusals.pop(0))]
        self.sent += messages
        return [DeliveryOutcome() for _ in messages]


async def quick(_: float) -> None:
    """A sleep that only lets others run."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def consuming(
    driver: FakeDriver,
    handler: Callable[..., Coroutine[Any, Any, Any]],
    *,
    publisher: Any = None,
    steps: Any = (),
    model: type[Numbered] = Numbered,
    event_type: str = EVENT_TYPE,
    **options: Any,
) -> AsyncIterator[EventConsumer]:
    """A started consumer over the double; stopped at the end."""
    config = ConsumerConfig(group_id="g", topics=("t",), create_topics=False, **options)
    consumer = EventConsumer(
        config,
        bootstrap_servers="nowhere:1",
        publisher=publisher,
        steps=steps,
        create_consumer=driver,
        sleep=quick,
    )
    consumer.on(event_type, model=model)(handler)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()
