"""The consumer loop: order, commits, failures, poison, stop, rebalance."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import CommitFailedError, KafkaConnectionError
from aiokafka.structs import ConsumerRecord, TopicPartition
from pydantic import BaseModel

from common_core.events.envelope import EventEnvelope
from essay_pipeline.consumer import CONSUMED, Backoff, EventConsumer, Received, Route
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


class Number(BaseModel):
    """An event for these tests."""

    number: int


def value_of(number: int) -> bytes:
    """An encoded event."""
    return (
        EventEnvelope[Number](event_type="n", source_service="test", data=Number(number=number))
        .model_dump_json()
        .encode()
    )


def record(partition: TopicPartition, offset: int, value: bytes | None = None) -> ConsumerRecord[bytes, bytes]:
    """A record whose event holds its offset."""
    return ConsumerRecord(
        topic=partition.topic,
        partition=partition.partition,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=value_of(offset) if value is None else value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=0,
        headers=(),
    )


class FakeKafka:
    """Kafka's consumer as the loop uses it: a log per partition, positions and commits."""

    def __init__(self, log: Mapping[TopicPartition, Sequence[ConsumerRecord[bytes, bytes]]]) -> None:
        self.log = log
        self.positions = dict.fromkeys(log, 0)
        self.committed: dict[TopicPartition, int] = {}
        self.listener: Any = None
        self.options: dict[str, Any] = {}
        self.commit_error: Exception | None = None
        self.start_error: Exception | None = None
        self.was_stopped = False

    def __call__(self, **options: Any) -> "FakeKafka":
        self.options = options
        return self

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self.listener = listener

    async def start(self) -> None:
        if self.start_error:
            raise self.start_error

    async def stop(self) -> None:
        self.was_stopped = True

    def assignment(self) -> set[TopicPartition]:
        return set(self.log)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)  # lets others run, as the real one does
        batch = {
            p: [r for r in records if r.offset >= self.positions[p]][:max_records] for p, records in self.log.items()
        }
        for partition, records in batch.items():
            if records:
                self.positions[partition] = records[-1].offset + 1
        return {partition: records for partition, records in batch.items() if records}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        if self.commit_error:
            raise self.commit_error
        self.committed.update(offsets)


@asynccontextmanager
async def consuming(
    kafka: FakeKafka, handler: Callable[..., Awaitable[Any]], **options: Any
) -> AsyncIterator[EventConsumer]:
    """A started consumer over the fake; stopped at the end."""

    async def no_wait(_: float) -> None:
        await asyncio.sleep(0)

    consumer = EventConsumer(
        bootstrap_servers="nowhere:1",
        group_id=options.pop("group_id", "g"),
        client_id="c",
        routes=[Route(topic="t", model=Number, handler=handler)],
        create_consumer=kafka,
        **{"sleep": no_wait, **options},
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_records_are_handled_in_order_and_then_committed() -> None:
    """Each partition's records come in order; the offset after the last is committed when it is done."""
    kafka = FakeKafka({P0: [record(P0, n) for n in range(5)], P1: [record(P1, n) for n in range(3)]})
    seen: dict[int, list[int]] = {0: [], 1: []}

    async def handler(raw: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        assert kafka.committed.get(TopicPartition("t", raw.partition), 0) <= raw.offset
        seen[raw.partition].append(received.event.number)
        return True

    async with consuming(kafka, handler):
        await until(lambda: kafka.committed == {P0: 5, P1: 3})

    assert seen == {0: [0, 1, 2, 3, 4], 1: [0, 1, 2]}
    assert kafka.options["enable_auto_commit"] is False
    assert kafka.options["auto_offset_reset"] == "earliest"


async def test_a_failing_record_is_tried_again_and_never_skipped() -> None:
    """After a failure the same record comes next on its partition; other partitions go on; waits double up to the limit."""
    kafka = FakeKafka({P0: [record(P0, n) for n in range(4)], P1: [record(P1, n) for n in range(4)]})
    seen: list[tuple[int, int]] = []
    waits: list[float] = []
    failures = iter(range(6))

    async def handler(raw: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        if raw.partition == 0 and raw.offset == 2 and next(failures, None) is not None:
            assert kafka.committed.get(P0, 2) == 2
            raise RuntimeError("not yet")
        seen.append((raw.partition, raw.offset))
        return True

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async with consuming(kafka, handler, sleep=sleep, backoff=Backoff(first=1, longest=8)):
        await until(lambda: kafka.committed == {P0: 4, P1: 4})

    assert [offset for partition, offset in seen if partition == 0] == [0, 1, 2, 3]
    assert [offset for partition, offset in seen if partition == 1] == [0, 1, 2, 3]
    assert waits == [1, 2, 4, 8, 8, 8]


@pytest.mark.parametrize(
    "value", [b"", b"{", b"[]", b'{"event_type": "n"}', value_of(1).replace(b'"number":1', b'"x":1')]
)
async def test_poison_is_counted_and_skipped(value: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    """A record that cannot be decoded is logged with its coordinates, counted and passed over, once."""
    group = f"g-{uuid4()}"
    kafka = FakeKafka({P0: [record(P0, 0), record(P0, 1, value), record(P0, 2)]})
    seen: list[int] = []

    async def handler(_: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        seen.append(received.event.number)
        return True

    async with consuming(kafka, handler, group_id=group):
        await until(lambda: kafka.committed == {P0: 3})

    line = next(line for line in capsys.readouterr().out.splitlines() if "poison_skipped" in line)
    assert seen == [0, 2]
    assert CONSUMED.labels(group=group, topic="t", outcome="poison")._value.get() == 1
    assert all(part in line for part in ("kafka_topic", "kafka_partition", "kafka_offset"))


async def test_duplicates_are_counted_and_committed() -> None:
    """A handler that answers None has seen the record before: it is done, and counted apart."""
    group = f"g-{uuid4()}"
    kafka = FakeKafka({P0: [record(P0, 0)]})

    async def handler(*_: Any) -> None:
        return None

    async with consuming(kafka, handler, group_id=group):
        await until(lambda: kafka.committed == {P0: 1})

    assert CONSUMED.labels(group=group, topic="t", outcome="duplicate")._value.get() == 1


async def test_stop_finishes_the_current_record() -> None:
    """Stopping waits for the running handler, commits it, and begins no other."""
    kafka = FakeKafka({P0: [record(P0, n) for n in range(3)]})
    begun, may_end = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def handler(_: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        begun.set()
        await may_end.wait()
        seen.append(received.event.number)
        return True

    async with consuming(kafka, handler) as consumer:
        await begun.wait()
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0)
        may_end.set()
        await stopping

        assert seen == [0]
        assert kafka.committed == {P0: 1}
        assert kafka.was_stopped
        assert not consumer.is_running


async def test_stop_does_not_wait_for_ever() -> None:
    """A handler that does not end within the deadline is cancelled, and its record not committed."""
    kafka = FakeKafka({P0: [record(P0, 0)]})
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(*_: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with consuming(kafka, handler, drain_seconds=0.05) as consumer:
        await begun.wait()
        await consumer.stop()

    assert cancelled.is_set()
    assert kafka.committed == {}
    assert kafka.was_stopped


async def test_stop_interrupts_the_wait_after_a_failure() -> None:
    """A consumer that is backing off stops at once."""
    kafka = FakeKafka({P0: [record(P0, 0)]})
    waiting = asyncio.Event()

    async def handler(*_: Any) -> None:
        raise RuntimeError("always")

    async def sleep(_: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    async with consuming(kafka, handler, sleep=sleep, drain_seconds=5) as consumer:
        await waiting.wait()
        async with asyncio.timeout(1):
            await consumer.stop()

    assert kafka.committed == {}


async def test_partitions_are_handed_over_after_the_commit() -> None:
    """A rebalance waits until what is being handled is committed."""
    kafka = FakeKafka({P0: [record(P0, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handler(*_: Any) -> bool:
        begun.set()
        await may_end.wait()
        return True

    async with consuming(kafka, handler):
        await begun.wait()
        revoked = asyncio.create_task(kafka.listener.on_partitions_revoked([P0]))
        await asyncio.sleep(0)
        assert not revoked.done()
        may_end.set()
        await revoked

        assert kafka.committed == {P0: 1}


async def test_a_refused_commit_is_survived() -> None:
    """When the group was rebalanced meanwhile, the loop goes on; the records come again elsewhere."""
    kafka = FakeKafka({P0: [record(P0, 0)]})
    kafka.commit_error = CommitFailedError("rebalanced")
    handled = asyncio.Event()

    async def handler(*_: Any) -> bool:
        handled.set()
        return True

    async with consuming(kafka, handler) as consumer:
        await handled.wait()
        await asyncio.sleep(0.01)  # some rounds
        assert consumer.is_running


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("no")])
async def test_what_a_handler_raises_never_ends_the_loop(error: BaseException) -> None:
    """Also a cancellation that comes from inside a handler is a failure of that record, which comes again."""
    kafka = FakeKafka({P0: [record(P0, 0), record(P0, 1)]})
    errors = iter([error])
    seen: list[int] = []

    async def handler(_: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        for each in errors:
            raise each
        seen.append(received.event.number)
        return True

    async with consuming(kafka, handler) as consumer:
        await until(lambda: kafka.committed == {P0: 2})
        assert consumer.is_running

    assert seen == [0, 1]


async def test_a_fault_of_the_loop_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the loop itself fails in the middle of a round, all records of the round come again."""
    kafka = FakeKafka({P0: [record(P0, n) for n in range(3)], P1: [record(P1, n) for n in range(3)]})
    seen: dict[int, set[int]] = {0: set(), 1: set()}
    faults = iter([OSError("metrics are broken")])
    labels = CONSUMED.labels

    def broken(**names: str) -> Any:
        for fault in faults:
            raise fault
        return labels(**names)

    async def handler(raw: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        seen[raw.partition].add(received.event.number)
        return True

    monkeypatch.setattr(CONSUMED, "labels", broken)
    async with consuming(kafka, handler):
        await until(lambda: kafka.committed == {P0: 3, P1: 3})

    assert seen == {0: {0, 1, 2}, 1: {0, 1, 2}}


async def test_a_failed_start_leaves_nothing_open() -> None:
    """When Kafka cannot be reached, the error is raised and the client closed; stop() is then harmless."""
    kafka = FakeKafka({})
    kafka.start_error = KafkaConnectionError("nobody there")

    with pytest.raises(KafkaConnectionError):
        async with consuming(kafka, lambda: None):  # type: ignore[arg-type,return-value]
            pass
    assert kafka.was_stopped


async def test_start_and_stop_can_be_repeated() -> None:
    """Starting twice and stopping twice, or unstarted, does nothing more."""
    kafka = FakeKafka({P0: []})

    async def handler(*_: Any) -> bool:
        return True

    async with consuming(kafka, handler) as consumer:
        await consumer.start()
        await consumer.stop()
        await consumer.stop()
        assert not consumer.is_running
        await consumer.start()
        assert consumer.is_running


@pytest.mark.integration
async def test_nothing_is_lost_on_real_kafka(
    kafka_server: KafkaServer, kafka_topic: TopicFactory, unique_name: str
) -> None:
    """Handlers that fail now and then, and a consumer replaced in the middle: all come, in order per key."""
    topic = kafka_topic("numbers", partitions=3)
    keys, each = 6, 30
    producer = AIOKafkaProducer(bootstrap_servers=kafka_server.address)
    await producer.start()
    try:
        for number in range(keys * each):
            await producer.send(topic, key=b"key-%d" % (number % keys), value=value_of(number))
    finally:
        await producer.stop()
    seen: list[int] = []
    failed: set[int] = set()

    async def handler(_: ConsumerRecord[bytes, bytes], received: Received) -> bool:
        number = received.event.number
        if number % 7 == 0 and number not in failed:
            failed.add(number)
            raise RuntimeError("the first time always")
        seen.append(number)
        return True

    for goal in (keys * each // 2, keys * each):
        consumer = EventConsumer(
            bootstrap_servers=kafka_server.address,
            group_id=unique_name,
            client_id="test",
            routes=[Route(topic=topic, model=Number, handler=handler)],
            backoff=Backoff(first=0.001, longest=0.01),
        )
        await consumer.start()
        try:
            async with asyncio.timeout(30):
                while len(set(seen)) < goal:
                    await asyncio.sleep(0.01)
        finally:
            await consumer.stop()

    assert sorted(seen) == list(range(keys * each))
    for key in range(keys):
        of_key = [number for number in seen if number % keys == key]
        assert of_key == sorted(of_key)
