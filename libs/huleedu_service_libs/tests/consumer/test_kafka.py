"""The consumer on real Kafka: order, parallelism, rebalance, stop, retries, dead letters, back-pressure."""

import asyncio
import json
from typing import Any

import pytest

from huleedu_service_libs.kafka.consumer import Delivery, RetryPolicy
from huleedu_service_libs.protocols import OutgoingMessage
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from ..waiting import until
from .conftest import EVENT_TYPE, Committed, MakeConsumer, Numbered, ReadTopic, Send, numbered

pytestmark = pytest.mark.integration

QUICK = RetryPolicy(attempts=3, first_delay_s=0.01, longest_delay_s=0.05)


async def test_keys_run_in_parallel_and_each_in_order(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send
) -> None:
    """Handlers of many keys run at the same time; the events of one key come one after the other, in order."""
    topic = kafka_topic("numbers", partitions=3)
    keys, each = 12, 25
    await send(*[numbered(topic, n, f"key-{n % keys}") for n in range(keys * each)])
    seen: list[int] = []
    running: dict[int, int] = {}
    most = 0
    consumer = make_consumer(topic)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        nonlocal most
        key = delivery.data.number % keys
        running[key] = running.get(key, 0) + 1
        assert running[key] == 1
        most = max(most, sum(running.values()))
        await asyncio.sleep(0.005)
        running[key] -= 1
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: len(seen) == keys * each)
    for key in range(keys):
        assert [n for n in seen if n % keys == key] == list(range(key, keys * each, keys))
    assert most >= keys // 2


async def test_a_slow_key_does_not_hold_up_the_others(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, committed: Committed
) -> None:
    """Others of the partition are done while one handler waits; committed is only what stands before it."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, "slow" if n == 3 else f"key-{n}") for n in range(50)])
    gate = asyncio.Event()
    seen: set[int] = set()
    consumer = make_consumer(topic)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.data.number == 3:
            await gate.wait()
        seen.add(delivery.data.number)

    await consumer.start()
    await until(lambda: len(seen) == 49)
    await until(lambda: (consumer.status().last_commit_s or 9) < 9)
    assert await committed(consumer.config.group_id, topic) == {0: 3}
    gate.set()
    await until(lambda: len(seen) == 50)
    await consumer.stop()
    assert await committed(consumer.config.group_id, topic) == {0: 50}


async def test_members_that_come_and_go_lose_nothing(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send
) -> None:
    """A second member joins and leaves under load: all events are handled, in order per key, hardly any twice."""
    topic = kafka_topic("numbers", partitions=4)
    keys, sent = 40, 0
    enough = asyncio.Event()

    async def feed() -> None:
        nonlocal sent
        while not enough.is_set():
            await send(*[numbered(topic, n, f"key-{n % keys}") for n in range(sent, sent + keys)])
            sent += keys
            await asyncio.sleep(0.05)

    seen: list[tuple[str, int]] = []
    by: dict[str, int] = {}

    def member(name: str) -> Any:
        consumer = make_consumer(topic, concurrency=20)

        @consumer.on(EVENT_TYPE, model=Numbered)
        async def handle(delivery: Delivery[Numbered]) -> None:
            await asyncio.sleep(0.01)
            seen.append((name, delivery.data.number))
            by[name] = by.get(name, 0) + 1

        return consumer

    first, second = member("first"), member("second")
    feeding = asyncio.create_task(feed())
    await first.start()
    await until(lambda: len(seen) > 100)
    await second.start()
    await until(lambda: by.get("second", 0) > 100)
    await second.stop()
    after = by["first"]
    await until(lambda: by["first"] > after + 100)
    enough.set()
    await feeding
    await until(lambda: len({n for _, n in seen}) == sent)
    for key in range(keys):
        of_key = [n for _, n in seen if n % keys == key]
        assert list(dict.fromkeys(of_key)) == list(range(key, sent, keys))
    assert len(seen) == sent  # each handed over after the drain, so none came again


async def test_stop_commits_only_the_finished_prefix(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, committed: Committed
) -> None:
    """A handler that outlasts the drain is cancelled; its event comes again, what stands before it does not."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, f"key-{n}") for n in range(10)])
    seen: list[int] = []
    cancelled = asyncio.Event()
    consumer = make_consumer(topic, drain_timeout_s=0.2)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.data.number == 4:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.set()
                raise
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: len(seen) == 9)
    await consumer.stop()
    assert cancelled.is_set()
    assert await committed(consumer.config.group_id, topic) == {0: 4}


async def test_stop_lets_running_handlers_finish(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, committed: Committed
) -> None:
    """What runs within the drain time is finished and committed; what waits behind is not begun."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, "one key") for n in range(5)])
    seen: list[int] = []
    begun = asyncio.Event()
    consumer = make_consumer(topic)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await asyncio.sleep(0.3)
        seen.append(delivery.data.number)

    await consumer.start()
    await begun.wait()
    await consumer.stop()
    assert seen == [0]
    assert not consumer.is_running
    assert await committed(consumer.config.group_id, topic) == {0: 1}


async def test_poison_goes_to_the_dead_letter_topic_with_its_history(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, read_topic: ReadTopic, committed: Committed
) -> None:
    """After the last attempt the original bytes, key and headers are dead-lettered with every error; others go on."""
    topic = kafka_topic("numbers")
    poison = numbered(topic, 1, "a", traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    await send(numbered(topic, 0, "a"), poison, numbered(topic, 2, "a"))
    seen: list[int] = []
    attempts: list[int] = []
    consumer = make_consumer(topic, retry=QUICK)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.data.number == 1:
            attempts.append(delivery.attempt)
            raise RuntimeError(f"no, for the {delivery.attempt}. time")
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: seen == [0, 2])
    (letter,) = await read_topic(consumer.config.dead_letter_topic_of(topic), 1)
    headers = dict(letter.headers)
    assert attempts == [1, 2, 3]
    assert (letter.value, letter.key) == (poison.value, poison.key)
    assert list(letter.headers)[: len(poison.headers)] == list(poison.headers)
    assert headers["failure_topic"].decode() == topic
    assert headers["failure_offset"] == b"1"
    assert headers["failure_attempts"] == b"3"
    assert headers["failure_reason"] == b"failed"
    assert headers["failure_error_type"] == b"RuntimeError"
    assert [each["error"] for each in json.loads(headers["failure_history"])] == [
        f"no, for the {n}. time" for n in (1, 2, 3)
    ]
    await consumer.stop()
    assert await committed(consumer.config.group_id, topic) == {0: 3}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (b"\x00\xff no JSON", "no event envelope"),
        (b"", "no event envelope"),
        (b"[]", "no event envelope"),
        (
            numbered("t", 1).value.replace(b'"number":1', b'"number":"secret"'),
            "data is no Numbered: number: Input should be a valid integer",
        ),
    ],
)
async def test_undecodable_bytes_are_dead_lettered_at_once(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, read_topic: ReadTopic, value: bytes, why: str
) -> None:
    """What is no event goes to the dead-letter topic as it was, without its content in the error; others go on."""
    topic = kafka_topic("numbers")
    await send(OutgoingMessage(topic=topic, value=value, key=b"a"), numbered(topic, 2, "a"))
    seen: list[int] = []
    consumer = make_consumer(topic)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: seen == [2])
    (letter,) = await read_topic(consumer.config.dead_letter_topic_of(topic), 1)
    headers = dict(letter.headers)
    assert letter.value == value
    assert headers["failure_reason"] == b"undecodable"
    assert why in headers["failure_error"].decode()
    assert b"secret" not in headers["failure_error"]


async def test_a_retry_topic_frees_the_key_and_tries_again_later(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send, read_topic: ReadTopic
) -> None:
    """Failed in place, the event waits in retry topics, not before its time, and keeps its identity and count."""
    topic = kafka_topic("numbers")
    await send(numbered(topic, 0, "a"), numbered(topic, 1, "a"))
    loop = asyncio.get_running_loop()
    seen: list[tuple[int, int, float]] = []
    ids: set[Any] = set()
    policy = RetryPolicy(attempts=1, delayed_s=(0.5, 1.0))
    consumer = make_consumer(topic, retry=policy)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append((delivery.data.number, delivery.attempt, loop.time()))
        if delivery.data.number == 0:
            ids.add(delivery.envelope.event_id)
            if delivery.attempt < 3:
                raise RuntimeError("not yet")

    await consumer.start()
    await until(lambda: len(seen) == 4)
    assert [(number, attempt) for number, attempt, _ in seen] == [(0, 1), (1, 1), (0, 2), (0, 3)]
    first, _, second, third = (at for _, _, at in seen)
    assert second - first >= 0.45
    assert third - second >= 0.95
    assert len(ids) == 1
    (record,) = await read_topic(consumer.config.retry_topic_of(topic, 2), 1)
    assert dict(record.headers)["failure_topic"].decode() == topic


async def test_a_handler_that_takes_too_long_is_cancelled_and_tried_again(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send
) -> None:
    """The time limit of the registration ends a run; that counts as a failed attempt."""
    topic = kafka_topic("numbers")
    await send(numbered(topic, 0, "a"))
    attempts: list[int] = []
    consumer = make_consumer(topic, retry=QUICK)

    @consumer.on(EVENT_TYPE, model=Numbered, timeout_s=0.1)
    async def handle(delivery: Delivery[Numbered]) -> None:
        attempts.append(delivery.attempt)
        if delivery.attempt == 1:
            await asyncio.sleep(30)

    await consumer.start()
    await until(lambda: attempts == [1, 2])


async def test_an_unreachable_dead_letter_topic_holds_the_event(
    make_consumer: MakeConsumer,
    kafka_topic: TopicFactory,
    send: Send,
    bus: Any,
    committed: Committed,
    read_topic: ReadTopic,
) -> None:
    """While nothing can be dead-lettered the event holds its key, is never skipped, and the status names it."""
    topic = kafka_topic("numbers")
    await send(numbered(topic, 0, "a"), numbered(topic, 1, "a"), numbered(topic, 2, "b"))
    seen: list[int] = []
    reachable = asyncio.Event()

    class Unreliable:
        async def publish_batch(self, messages: Any) -> Any:
            if not reachable.is_set():
                raise ConnectionError("the broker is away")
            return await bus.publish_batch(messages)

    consumer = make_consumer(topic, publisher=Unreliable(), retry=RetryPolicy(attempts=1), stuck_after_s=0.2)

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.data.number == 0:
            raise RuntimeError("never")
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: bool(consumer.status().stuck))
    (stuck,) = consumer.status().stuck
    assert (stuck.offset, stuck.doing) == (0, "waiting for the broker")
    assert "the broker is away" in str(stuck)
    assert seen == [2]
    assert await committed(consumer.config.group_id, topic) == {}
    reachable.set()
    await until(lambda: seen == [2, 1])
    assert len(await read_topic(consumer.config.dead_letter_topic_of(topic), 1)) == 1


async def test_full_buffers_pause_and_the_member_stays(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send
) -> None:
    """Handlers slower than the poll interval: partitions are paused, memory stays bounded, no rebalance happens."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, f"key-{n}") for n in range(60)])
    gate = asyncio.Event()
    seen: list[int] = []
    consumer = make_consumer(
        topic,
        concurrency=4,
        max_buffered_per_partition=10,
        max_uncommitted_per_partition=10,
        max_poll_interval_s=3.0,
        pause_after_s=0.2,
    )

    @consumer.on(EVENT_TYPE, model=Numbered)
    async def handle(delivery: Delivery[Numbered]) -> None:
        await gate.wait()
        seen.append(delivery.data.number)

    await consumer.start()
    await until(lambda: bool(consumer.status().paused))
    session = consumer._session
    assert session is not None
    generation = session.consumer._coordinator.generation
    await asyncio.sleep(5)  # longer than the poll interval
    status = consumer.status()
    assert status.buffered <= 10
    assert status.in_flight == 4
    assert status.alive(2.0)
    assert session.consumer._coordinator.generation == generation
    gate.set()
    await until(lambda: len(seen) == 60)
    assert sorted(seen) == list(range(60))
    assert consumer.status().paused == ()


async def test_a_group_that_begins_at_the_end_finds_what_came_while_it_was_away(
    make_consumer: MakeConsumer, kafka_topic: TopicFactory, send: Send
) -> None:
    """What is sent after start() has returned is read, though the consumer stops before it has seen any of it."""
    topic = kafka_topic("late", partitions=3)
    await send(numbered(topic, 0, "k"))
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    first, second = (make_consumer(topic, from_beginning=False) for _ in range(2))
    for consumer in (first, second):
        consumer.on(EVENT_TYPE, model=Numbered)(handle)
    await first.start()
    await first.stop()
    await send(numbered(topic, 1, "k"))
    await second.start()
    await until(lambda: seen == [1])
