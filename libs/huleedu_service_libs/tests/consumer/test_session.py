"""The consumer over a driver that is a double: faults of the driver, of a commit, of a step; start, stop, status."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError, KafkaConnectionError
from aiokafka.structs import ConsumerRecord, TopicPartition
from prometheus_client import REGISTRY

from huleedu_service_libs.kafka.consumer import (
    ConsumerConfig,
    ConsumerSetupError,
    ConsumerStatus,
    Delivery,
    EventConsumer,
    RetryPolicy,
)
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.store_policy import DeferredError, StoreDownError

from .conftest import EVENT_TYPE, Numbered, numbered, until

P0, P1 = TopicPartition("t", 0), TopicPartition("t", 1)


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
    consumer.on(EVENT_TYPE, model=Numbered)(handler)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def test_a_refused_commit_is_survived() -> None:
    """When the group was rebalanced meanwhile, the loop goes on; a later commit covers it, and the status forgets it."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    driver.commit_errors = [CommitFailedError("rebalanced")] * 3

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 1})
        assert consumer.is_running
        assert consumer.status().last_error is None


async def test_a_driver_beyond_help_is_replaced_and_nothing_is_lost() -> None:
    """After polls that fail again and again a new driver is made, and what was not committed is read again."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    driver.poll_errors = [KafkaConnectionError("gone")] * 5
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle):
        await until(lambda: driver.committed == {P0: 5})
    assert seen == [0, 1, 2, 3, 4]
    assert driver.made == 2
    assert driver.stopped == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("no"), GeneratorExit()])
async def test_what_a_handler_raises_never_ends_the_loop(error: BaseException) -> None:
    """Also a cancellation that comes from inside a handler is a failure of that event, which is tried again in order."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    errors = iter([error])
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        for each in errors:
            raise each
        seen.append(delivery.data.number)

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 2})
        assert consumer.is_running
    assert seen == [0, 1]


async def test_without_a_publisher_nothing_is_skipped() -> None:
    """What cannot be processed and cannot be dead-lettered holds its key; other keys go on, and the status names it."""
    bad = record(P0, 0, key=b"a", value=b"no event")
    driver = FakeDriver({P0: [bad, record(P0, 1, key=b"a"), record(P0, 2, key=b"b")]})
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, stuck_after_s=0.001) as consumer:
        await until(lambda: seen == [2] and bool(consumer.status().stuck))
        (stuck,) = consumer.status().stuck
        assert "no event envelope" in str(stuck)
    assert driver.committed == {}


async def test_outages_count_no_attempt() -> None:
    """Errors that the policy names as outages are tried in place for as long as they last, and nothing is dead-lettered."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    letters = Letters()
    failures = iter(range(20))
    attempts: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        attempts.append(delivery.attempt)
        if next(failures, None) is not None:
            raise ConnectionRefusedError("the database is away")

    async with consuming(driver, handle, publisher=letters, retry=RetryPolicy(attempts=2)):
        await until(lambda: driver.committed == {P0: 1})
    assert len(attempts) == 21
    assert set(attempts) == {1}
    assert letters.sent == []


class Refusing:
    """A step that refuses some times, then lets everything through."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.left = times

    async def process(self, delivery: Delivery[Any], proceed: Callable[..., Awaitable[None]]) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        await proceed(offered="from the step", unwanted=1)


@pytest.mark.parametrize(
    "error",
    [DeferredError("elsewhere"), StoreDownError(store="redis", operation="claim", policy="pause", reason="away")],
)
async def test_a_step_may_say_not_now(error: Exception) -> None:
    """The event waits, no attempt is counted, and the handler then gets what of the step's offers it has parameters for."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    letters = Letters()
    seen: list[tuple[int, int, str]] = []

    async def handle(delivery: Delivery[Numbered], *, offered: str) -> None:
        seen.append((delivery.data.number, delivery.attempt, offered))

    policy = RetryPolicy(attempts=1)
    async with consuming(driver, handle, publisher=letters, steps=[Refusing(error, 5)], retry=policy):
        await until(lambda: driver.committed == {P0: 2})
    assert seen == [(0, 1, "from the step"), (1, 1, "from the step")]
    assert letters.sent == []


async def test_a_step_whose_store_is_down_may_have_events_dead_lettered() -> None:
    """With that policy the event goes to the dead-letter topic without a run of its handler."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    letters = Letters()
    seen: list[int] = []
    down = StoreDownError(store="redis", operation="claim", policy="dead-letter", reason="away")

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, publisher=letters, steps=[Refusing(down, 1)]):
        await until(lambda: driver.committed == {P0: 2})
    (letter,) = letters.sent
    assert dict(letter.headers)["failure_reason"] == b"store_down"
    assert dict(letter.headers)["failure_attempts"] == b"0"
    assert seen == [1]


async def test_a_dead_letter_that_is_refused_for_its_size_is_sent_without_history() -> None:
    """The second attempt carries less about the failure, and still the original bytes."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    letters = Letters(ValueError("too large"))

    async def handle(delivery: Delivery[Numbered]) -> None:
        raise RuntimeError("x" * 5000)

    async with consuming(driver, handle, publisher=letters, retry=RetryPolicy(attempts=1)):
        await until(lambda: driver.committed == {P0: 1})
    (letter,) = letters.sent
    headers = dict(letter.headers)
    assert "failure_history" not in headers
    assert len(headers["failure_error"]) == 200
    assert letter.value == driver.log[P0][0].value


async def test_a_record_without_value_is_dead_lettered_as_such() -> None:
    """A tombstone is no event; its dead letter says that it had no value."""
    driver = FakeDriver({P0: [record(P0, 0, value=None)]})
    letters = Letters()

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle, publisher=letters):
        await until(lambda: driver.committed == {P0: 1})
    assert dict(letters.sent[0].headers)["failure_null_value"] == b"1"


@pytest.mark.parametrize(("policy", "letters_sent"), [("skip", 0), ("dead-letter", 1)])
async def test_events_without_a_handler_go_as_declared(policy: str, letters_sent: int) -> None:
    """They are passed over, or dead-lettered; either way the others of the topic go on."""
    other = numbered("t", 0).value.replace(EVENT_TYPE.encode(), b"huleedu.other.v1")
    driver = FakeDriver({P0: [record(P0, 0, value=other), record(P0, 1)]})
    letters = Letters()
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, publisher=letters, unhandled=policy):
        await until(lambda: driver.committed == {P0: 2})
    assert seen == [1]
    assert len(letters.sent) == letters_sent


async def test_a_log_that_was_cut_back_is_read_from_there() -> None:
    """When offsets go backwards, what is held of the partition is forgotten, and the new records are processed."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle):
        await until(lambda: len(seen) == 5)
        driver.positions[P0] = 3
        await until(lambda: len(seen) == 7)
    assert seen == [0, 1, 2, 3, 4, 3, 4]


async def test_partitions_are_handed_over_after_handlers_and_commit() -> None:
    """A revocation waits for what runs, commits it, and drops what waits; a retry in its pause is not waited for."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(3)], P1: [record(P1, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.record.partition == 1:
            raise ConnectionError("for long")
        begun.set()
        await may_end.wait()
        seen.append(delivery.data.number)

    async with consuming(driver, handle, commit_interval_s=1000):
        await begun.wait()
        revoked = asyncio.create_task(driver.listener.on_partitions_revoked([P0, P1]))
        await asyncio.sleep(0.05)
        assert not revoked.done()
        may_end.set()
        await asyncio.wait_for(revoked, 5)
        assert driver.committed == {P0: 1}
        assert seen == [0]


async def test_a_failed_start_leaves_nothing_open() -> None:
    """When Kafka cannot be reached, the error is raised and the driver closed; stop() is then harmless."""
    driver = FakeDriver({})
    driver.start_error = KafkaConnectionError("nobody there")

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    with pytest.raises(KafkaConnectionError):
        async with consuming(driver, handle):
            pass
    assert driver.stopped == 1


async def test_start_and_stop_can_be_repeated() -> None:
    """Starting twice and stopping twice does nothing more; a stopped consumer can be started again."""
    driver = FakeDriver({P0: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await consumer.start()
        await consumer.stop()
        await consumer.stop()
        assert not consumer.is_running
        assert driver.made == driver.stopped == 1
        await consumer.start()
        assert consumer.is_running


async def test_what_cannot_work_is_told_at_registration() -> None:
    """No handler, two for one type, one that is not async or takes nothing, one too late: each names the fix."""
    driver = FakeDriver({P0: []})
    config = ConsumerConfig(group_id="g", topics=("t",))
    consumer = EventConsumer(config, bootstrap_servers="nowhere:1", create_consumer=driver)

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async def takes_nothing() -> None: ...

    with pytest.raises(ConsumerSetupError, match=r"decorate one with @consumer\.on"):
        await consumer.start()
    with pytest.raises(ConsumerSetupError, match="must be async def"):
        consumer.on("a", model=Numbered)(lambda delivery: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ConsumerSetupError, match="must take the delivery"):
        consumer.on("a", model=Numbered)(takes_nothing)  # type: ignore[arg-type]
    consumer.on(EVENT_TYPE, model=Numbered)(handle)
    with pytest.raises(ConsumerSetupError, match="has a handler already"):
        consumer.on(EVENT_TYPE, model=Numbered)(handle)
    await consumer.start()
    with pytest.raises(ConsumerSetupError, match=r"before start\(\)"):
        consumer.on("late", model=Numbered)(handle)
    await consumer.stop()


async def test_a_cancelled_stop_is_finished_by_the_next() -> None:
    """Whoever limits the time of a stop and asks again leaves no member behind that holds its partitions."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await may_end.wait()

    async with consuming(driver, handle) as consumer:
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.stop(), 0.05)
        assert driver.stopped == 0
        may_end.set()
        await consumer.stop()
        assert driver.stopped == 1
        assert driver.committed == {P0: 1}


async def test_a_start_after_a_cancelled_stop_leaves_one_member() -> None:
    """What a cancelled stop left open is closed before another membership begins."""
    driver = FakeDriver({P0: []})
    driver.stop_takes_s = 0.2

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.stop(), 0.05)
        await consumer.start()
        assert (driver.made, driver.stopped) == (2, 1)


async def test_a_rebalance_while_it_stops_waits_for_the_handlers() -> None:
    """Nobody gets the partitions of a member that is stopping while its handlers still run."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await may_end.wait()

    async with consuming(driver, handle, commit_interval_s=1000) as consumer:
        await begun.wait()
        stop = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0.05)
        revoked = asyncio.create_task(driver.listener.on_partitions_revoked([P0]))
        await asyncio.sleep(0.05)
        assert not revoked.done()
        may_end.set()
        await asyncio.wait_for(asyncio.gather(stop, revoked), 5)
    assert driver.committed == {P0: 1}


async def test_a_group_that_begins_at_the_end_keeps_its_place() -> None:
    """Where it begins is committed before start() returns: what comes while it is away is found by the next start."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(3)], P1: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    driver.begin = {P0: 3}
    async with consuming(driver, handle, from_beginning=False, commit_interval_s=1000):
        assert driver.committed == {P0: 3, P1: 0}


async def test_no_place_is_kept_while_partitions_go() -> None:
    """In a rebalance positions lie beyond what was dropped unfinished: they are not committed."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    begun = asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await asyncio.sleep(1000)

    async with consuming(driver, handle, from_beginning=False, commit_interval_s=0.001, drain_timeout_s=0.01):
        await begun.wait()
        await driver.listener.on_partitions_revoked([P0])
        await asyncio.sleep(0.05)
        assert driver.committed == {P0: 0}


async def test_a_partition_that_finds_no_room_has_its_lag() -> None:
    """Records of a partition that was never read count, while the buffer is full of another's."""
    driver = FakeDriver({P0: [record(P0, n, key=b"%d" % n) for n in range(20)], P1: [record(P1, n) for n in range(7)]})
    driver.unread = {P1}

    async def handle(delivery: Delivery[Numbered]) -> None:
        await asyncio.sleep(1000)

    async with consuming(driver, handle, max_buffered=20, drain_timeout_s=0.01) as consumer:
        await until(lambda: consumer.status().lag == {"t": 27})


async def test_lag_of_what_is_gone_is_nobodys() -> None:
    """A topic that is not ours any more, and a consumer that has stopped, leave no old lag in the metrics."""
    metrics = ConsumerMetrics("lag-of-what-is-gone")
    metrics.lags({"t": 5, "t.retry-1": 3})
    metrics.lags({"t": 4})
    found = [
        REGISTRY.get_sample_value("huleedu_consumer_lag_records", {"group": "lag-of-what-is-gone", "topic": topic})
        for topic in ("t", "t.retry-1")
    ]
    assert found == [4, 0]


async def test_two_consumers_of_one_group_in_one_process_share_the_gauges() -> None:
    """Gauges are the sum over the members in the process; one that stops takes only its own share away."""
    group = "two-in-one-process"
    one, two = ConsumerMetrics(group), ConsumerMetrics(group)
    one.levels(in_flight=3, buffered=30, paused=1, stuck=0)
    two.levels(in_flight=4, buffered=40, paused=0, stuck=2)
    one.lags({"t": 5})
    two.lags({"t": 7})

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"huleedu_consumer_{name}", {"group": group, **labels})

    assert (value("in_flight"), value("buffered_records"), value("stuck_partitions")) == (7, 70, 2)
    assert (value("paused_partitions"), value("lag_records", topic="t")) == (1, 12)
    two.levels(in_flight=0, buffered=0, paused=0, stuck=0)
    two.lags({})
    assert (value("in_flight"), value("lag_records", topic="t")) == (3, 5)


async def test_a_driver_that_cannot_be_replaced_is_told() -> None:
    """While no connection can be made, the status says why, and that the loop is alive."""
    driver = FakeDriver({P0: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        driver.start_error = KafkaConnectionError("nobody there")
        driver.poll_errors = [KafkaConnectionError("gone")] * 5
        await until(lambda: "nobody there" in (consumer.status().last_error or ""))
        assert consumer.status().running
        driver.start_error = None
        await until(lambda: consumer.status().last_error is None)


def test_waiting_for_others_is_no_reason_to_restart() -> None:
    """A member that waits for others to finish their handlers is alive, but not for ever."""
    waits = ConsumerStatus(running=True, last_poll_s=200.0, rebalancing_s=200.0, rebalance_limit_s=300.0)
    assert waits.alive()
    assert not replace(waits, rebalancing_s=301.0).alive()
    assert not replace(waits, rebalancing_s=None).alive()


async def test_what_the_driver_cancels_ends_no_loop() -> None:
    """A future that the driver cancels inside a poll or a commit is a failure of that call, and it is made again."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    driver.poll_errors = [asyncio.CancelledError()]
    driver.commit_errors = [asyncio.CancelledError()]

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 1}, 5)
        assert consumer.is_running
