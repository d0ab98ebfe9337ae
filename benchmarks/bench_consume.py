"""Idempotent consumption beside its peers: messages a second, with trivial handlers and with handlers that wait.

Run by ``make bench SUBJECT=consume``. Servers and all subjects share the machine; each subject reads the same events in
a consumer group of its own, in turn, and only the ratios of one run mean something. A round counts from the first
handled event to the last, so joining the group is left out. The ceiling is a bare loop that claims and marks a whole
batch with one script each and runs handlers one after the other: it keeps no order after a failure, retries nothing,
remembers no owner, and waits for the slowest. With pipelines of SET NX in the place of scripts, as one finds it, it is slower.
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from faststream.kafka import KafkaBroker
from faststream.kafka.annotations import KafkaMessage
from pydantic import BaseModel
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from common_core.events.envelope import EventEnvelope
from harness import in_short, versions_of, write_result
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.inbox import Inbox, InboxConfig, InboxStep
from huleedu_service_libs.inbox.models import Base
from huleedu_service_libs.kafka.consumer import ConsumerConfig, Delivery, EventConsumer
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.stack import DevStack

EVENT_TYPE = "huleedu.bench.consumed.v1"
KEYS = 1_000
PARTITIONS = 4
EVENT_BYTES = 600
TRIVIAL_EVENTS = in_short(12_000, 300)
WAITING_EVENTS = in_short(2_000, 100)
WAIT_S = 0.005
ROUNDS = in_short(3, 1)
SLOW, WAITING_SLOW = in_short(6, 1), in_short(4, 1)  # subjects that claim one by one read only that part of the events
LIMIT_S = 120.0
BATCH = 500
TOGETHER = 100
TOGETHER_AT_MOST = 1_000  # handlers of ours at the same time; as many as there are keys
TTL_S = 3_600

OURS = "EventConsumer, Redis"
INBOX = "EventConsumer, inbox"
UNPROTECTED = "EventConsumer, no step"
PLAIN = "aiokafka loop, SET NX each"
FASTSTREAM = "FastStream, SET NX each"
PIPELINED = "aiokafka loop, pipelined SET NX"
CEILING = "aiokafka loop, a script a batch"

CLAIM_ALL = """
local answers = {}
for i, key in ipairs(KEYS) do answers[i] = redis.call('SET', key, 'processing', 'NX', 'EX', ARGV[1]) and 1 or 0 end
return answers
"""
MARK_ALL = "for _, key in ipairs(KEYS) do redis.call('SET', key, 'completed', 'EX', ARGV[1]) end"


class Consumed(BaseModel):
    """The event."""

    number: int
    filling: str


class Counted:
    """A handler: counts, waits if told to, and knows when the first and the last event came."""

    def __init__(self, events: int, wait_s: float) -> None:
        self.left = events
        self.done = asyncio.Event()
        self.first = 0.0
        self.last = 0.0
        self._wait_s = wait_s

    async def handle(self, _: Consumed) -> None:
        """One event."""
        if not self.first:
            self.first = time.perf_counter()
        if self._wait_s:
            await asyncio.sleep(self._wait_s)  # noqa: TID251  # the work that is measured
        self.left -= 1
        if self.left <= 0:
            self.last = time.perf_counter()
            self.done.set()


class Servers:
    """Where everything is."""

    def __init__(self, kafka: str, redis: str, postgres: str, topic: str) -> None:
        self.kafka = kafka
        self.redis = redis
        self.postgres = postgres
        self.topic = topic


Subject = Callable[[Servers, Counted], Awaitable[None]]


async def ours(servers: Servers, counted: Counted) -> None:
    """The consumer with idempotency in Redis."""
    async with RedisClient(client_id="bench", redis_url=servers.redis) as redis:
        step = IdempotentStep(redis, IdempotencyConfig("bench", key_prefix=uuid4().hex, in_progress="wait"))
        await _run_ours(servers, counted, steps=(step,))


async def inbox(servers: Servers, counted: Counted) -> None:
    """The consumer with the durable inbox in PostgreSQL, a hundred deliveries in a transaction."""
    engine = create_async_engine(servers.postgres)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    memory = Inbox(async_sessionmaker(engine), InboxConfig(consumer=uuid4().hex))
    await _run_ours(servers, counted, steps=(InboxStep(memory, together=TOGETHER),))
    await engine.dispose()


async def unprotected(servers: Servers, counted: Counted) -> None:
    """The consumer alone."""
    await _run_ours(servers, counted, steps=())


async def _run_ours(servers: Servers, counted: Counted, steps: Any) -> None:
    config = ConsumerConfig(group_id=uuid4().hex, topics=(servers.topic,), concurrency=TOGETHER_AT_MOST)
    consumer = EventConsumer(config, bootstrap_servers=servers.kafka, steps=steps)

    @consumer.on(EVENT_TYPE, model=Consumed)
    async def handle(delivery: Delivery[Consumed]) -> None:
        await counted.handle(delivery.data)

    async with consumer:
        await counted.done.wait()


async def plain(servers: Servers, counted: Counted) -> None:
    """What services write by hand: one event after the other, a claim and a mark for each, a commit after a batch."""
    async with Redis.from_url(servers.redis) as redis, _plain_consumer(servers) as consumer:
        prefix = uuid4().hex
        while not counted.done.is_set():
            for records in (await consumer.getmany(timeout_ms=500, max_records=BATCH)).values():
                for record in records:
                    key = f"{prefix}:{dict(record.headers)['event_id'].decode()}"
                    if await redis.set(key, "processing", nx=True, ex=TTL_S):
                        await counted.handle(_data_of(record.value))
                        await redis.set(key, "completed", ex=TTL_S)
            await consumer.commit()


async def ceiling(servers: Servers, counted: Counted) -> None:
    """See the module."""
    async with Redis.from_url(servers.redis) as redis, _plain_consumer(servers) as consumer:
        claim, mark = redis.register_script(CLAIM_ALL), redis.register_script(MARK_ALL)
        prefix = uuid4().bytes
        while not counted.done.is_set():
            batches = await consumer.getmany(timeout_ms=500, max_records=BATCH)
            records = [record for batch in batches.values() for record in batch]
            if not records:
                continue
            keys = [prefix + dict(record.headers)["event_id"] for record in records]
            claimed = await claim(keys, [TTL_S])
            for record, mine in zip(records, claimed, strict=True):
                if mine:
                    await counted.handle(_data_of(record.value))
            await mark(keys, [TTL_S])
            await consumer.commit()


async def pipelined(servers: Servers, counted: Counted) -> None:
    """The same with a pipeline of SET NX and one of SET."""
    async with Redis.from_url(servers.redis) as redis, _plain_consumer(servers) as consumer:
        prefix = uuid4().hex
        while not counted.done.is_set():
            batches = await consumer.getmany(timeout_ms=500, max_records=BATCH)
            records = [record for batch in batches.values() for record in batch]
            keys = [f"{prefix}:{dict(record.headers)['event_id'].decode()}" for record in records]
            if not records:
                continue
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    _ = pipe.set(key, "processing", nx=True, ex=TTL_S)
                claimed = await pipe.execute()
            for record, mine in zip(records, claimed, strict=True):
                if mine:
                    await counted.handle(_data_of(record.value))
            async with redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    _ = pipe.set(key, "completed", ex=TTL_S)
                await pipe.execute()
            await consumer.commit()


async def faststream(servers: Servers, counted: Counted) -> None:
    """FastStream as its documentation has it, acknowledging after the handler, with the same claim and mark."""
    broker = KafkaBroker(servers.kafka, logger=None)
    prefix = uuid4().hex
    async with Redis.from_url(servers.redis) as redis:

        @broker.subscriber(servers.topic, group_id=uuid4().hex, auto_offset_reset="earliest")
        async def handle(body: EventEnvelope[Any], message: KafkaMessage) -> None:
            key = f"{prefix}:{message.headers['event_id']}"
            if await redis.set(key, "processing", nx=True, ex=TTL_S):
                await counted.handle(Consumed.model_validate(body.data))
                await redis.set(key, "completed", ex=TTL_S)

        await broker.start()
        try:
            await counted.done.wait()
        finally:
            await broker.stop()


def _plain_consumer(servers: Servers) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        servers.topic,
        bootstrap_servers=servers.kafka,
        group_id=uuid4().hex,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )


def _data_of(value: bytes) -> Consumed:
    return Consumed.model_validate(EventEnvelope[Any].model_validate_json(value).data)


SUBJECTS: dict[str, Subject] = {
    OURS: ours,
    INBOX: inbox,
    UNPROTECTED: unprotected,
    FASTSTREAM: faststream,
    PLAIN: plain,
    PIPELINED: pipelined,
    CEILING: ceiling,
}


async def produce(bootstrap: str, topic: str, events: int) -> None:
    """Fill the topic: events of about `EVENT_BYTES` bytes over `KEYS` keys, with the standard headers."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    await producer.start()
    try:
        sent = []
        for number in range(events):
            envelope = EventEnvelope[Consumed](
                event_type=EVENT_TYPE, source_service="bench", data=Consumed(number=number, filling="x" * 300)
            )
            headers = {"event_id": str(envelope.event_id), "event_type": EVENT_TYPE, "source_service": "bench"}
            sent.append(
                await producer.send(
                    topic,
                    envelope.model_dump_json().encode(),
                    key=b"key-%d" % (number % KEYS),
                    headers=[(name, text.encode()) for name, text in headers.items()],
                )
            )
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


async def rate(subject: Subject, servers: Servers, events: int, wait_s: float) -> float:
    """Messages a second of one round."""
    counted = Counted(events, wait_s)
    async with asyncio.timeout(LIMIT_S):
        await subject(servers, counted)
    return events / (counted.last - counted.first)


async def compare(
    names: list[str], servers: Servers, events: int, wait_s: float, rounds: int
) -> dict[str, dict[str, float]]:
    """Rounds in turn over the subjects; median, worst and best of each, messages a second."""
    samples: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            read = events // (WAITING_SLOW if wait_s else SLOW) if name in (FASTSTREAM, PLAIN) else events
            samples[name].append(await rate(SUBJECTS[name], servers, read, wait_s))
    return {n: {"median": statistics.median(s), "worst": min(s), "best": max(s)} for n, s in samples.items()}


def show(title: str, figures: dict[str, dict[str, float]], first: str) -> None:
    """Print messages a second, and how many times faster ``first`` is."""
    print(f"\n{title}")
    print(f"  {'':<36}{'median/s':>10}{'worst':>9}{'best':>9}{'ours is':>10}")
    for name, figure in figures.items():
        ratio = figures[first]["median"] / figure["median"]
        print(f"  {name:<36}{figure['median']:>10.0f}{figure['worst']:>9.0f}{figure['best']:>9.0f}{ratio:>9.2f}x")


async def run(kafka: str, redis: str, postgres: str, prepare: Callable[[str, int], None]) -> None:
    """All measurements on running servers."""
    configure_service_logging("bench", log_level="ERROR")
    gc.freeze()  # as a service does after its start: else every full collection looks at all that was imported
    trivial, waiting = f"trivial-{uuid4().hex[:8]}", f"waiting-{uuid4().hex[:8]}"
    for topic, events in ((trivial, TRIVIAL_EVENTS), (waiting, WAITING_EVENTS)):
        prepare(topic, PARTITIONS)
        await produce(kafka, topic, events)
    only = [name for name in SUBJECTS if not sys.argv[1:] or any(word in name for word in sys.argv[1:])]
    quick = await compare(only, Servers(kafka, redis, postgres, trivial), TRIVIAL_EVENTS, 0.0, ROUNDS)
    show(f"handlers that do nothing, {TRIVIAL_EVENTS} events of {EVENT_BYTES} bytes, {KEYS} keys", quick, only[0])
    slow_names = [name for name in only if name in {OURS, FASTSTREAM, PLAIN}]
    slow = await compare(slow_names, Servers(kafka, redis, postgres, waiting), WAITING_EVENTS, WAIT_S, ROUNDS)
    show(f"handlers that wait {WAIT_S * 1000:.0f} ms, {WAITING_EVENTS} events", slow, only[0])
    if set(only) != set(SUBJECTS):
        return
    path = write_result(
        "consume",
        {
            "unit": "messages/s",
            "parts": {"handlers that do nothing": _named(quick), "handlers that wait 5 ms": _named(slow)},
            "versions": versions_of(["aiokafka", "asyncpg", "faststream", "pydantic", "redis", "sqlalchemy"]),
        },
    )
    print(f"\n{path}")


def _named(figures: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """With the names that say what is ours and what is the ceiling."""
    kinds = {OURS: "ours: ", INBOX: "ours: ", UNPROTECTED: "ours: ", CEILING: "ceiling: "}
    return {kinds.get(name, "") + name: {**row, "spread": row["best"] - row["worst"]} for name, row in figures.items()}


def main() -> None:
    """Start the servers and measure."""
    with DevStack(("redis", "kafka", "postgres"), progress=print) as stack:
        postgres = stack.postgres.create_database().replace("postgresql://", "postgresql+asyncpg://", 1)
        asyncio.run(
            run(
                stack.kafka.address,
                stack.redis.address,
                postgres,
                lambda topic, n: stack.kafka.create_topic(topic, partitions=n),
            )
        )


if __name__ == "__main__":
    main()
