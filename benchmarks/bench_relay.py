"""The relay end to end beside its ceiling and its peers: PostgreSQL, a real broker and the relay on one machine.

Every subject drains the same events (about 600 bytes, 1 000 keys, six partitions) from a table of
its own with ``acks=all`` and an idempotent producer. The ceiling is a bare script: a pipelined SELECT,
whole record batches, one UPDATE a batch, and nothing that makes it safe. Run by ``make bench SUBJECT=relay``;
``ARGS=--backlog`` adds the cost of an event in front of a backlog of a million.
"""

import argparse
import asyncio
import gc
import logging
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import orjson
from aiokafka import AIOKafkaProducer
from faststream.kafka import KafkaBroker
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from common_core import EventEnvelope
from harness import in_short, versions_of, write_result
from huleedu_service_libs.kafka.partitioning import partition_for
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.relay import EventRelayWorker
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.settings import OutboxSettings
from outbox_load import PARTITIONS, Servers, envelope, envelope_bytes, fill, make_table, make_topic, servers

BATCH = 1_000
EVENTS, ROUNDS = in_short(20_000, 500), in_short(3, 1)
LOOP_EVENTS, PEER_EVENTS = in_short(1_000, 50), in_short(3_000, 50)  # of the slow ones
MEMORY_EVENTS = in_short(100_000, 500)
PEERS = ["faststream-outbox", "faststream", "aiokafka", "asyncpg", "sqlalchemy"]

Drain = Callable[[Servers, int], Awaitable[float]]


async def ours(where: Servers, events: int) -> float:
    """Seconds in which a relay empties the table."""
    engine = create_async_engine(where.database)
    bus = KafkaBus(client_id="bench-relay", bootstrap_servers=where.kafka)
    await bus.start()
    worker = EventRelayWorker(
        PostgreSQLOutboxRepository(engine, "bench"), bus, OutboxSettings(batch_size=BATCH), service_name="bench"
    )
    started = time.perf_counter()
    await worker.start()
    await _emptied(where, events)
    took = time.perf_counter() - started
    await worker.stop()
    await bus.stop()
    await engine.dispose()
    return took


async def _emptied(where: Servers, events: int) -> None:
    """Wait until the last rows are marked; looks seldom, and at the newest row first."""
    connection = await asyncpg.connect(where.dsn)
    newest = await connection.fetchval("SELECT id FROM event_outbox ORDER BY created_at DESC LIMIT 1")
    while not await connection.fetchval(_IS_PUBLISHED, newest):  # noqa: ASYNC110  # another process would tell it
        await asyncio.sleep(0.02)  # noqa: TID251  # a benchmark goes by the real clock
    left = 1
    while left:
        left = await connection.fetchval("SELECT count(*) FROM event_outbox WHERE published_at IS NULL")
    await connection.close()
    assert events  # noqa: S101  # a table without rows would measure nothing


_IS_PUBLISHED = "SELECT published_at IS NOT NULL FROM event_outbox WHERE id = $1"
_SELECT = (
    "SELECT id, coalesce(nullif(event_key, ''), aggregate_id), topic, event_type, event_data::text FROM event_outbox"
    " WHERE published_at IS NULL AND id <> ALL($2) ORDER BY published_at, created_at, id LIMIT $1"
)
_UPDATE = "UPDATE event_outbox SET published_at = now() WHERE id = ANY($1) AND published_at IS NULL"


async def ceiling(where: Servers, events: int) -> float:
    """Seconds of the bare script: the same rows, headers and acknowledgements, no ownership, no error handling."""
    connection = await asyncpg.connect(where.dsn)
    await connection.execute("SET enable_sort = off")
    producer = AIOKafkaProducer(
        bootstrap_servers=where.kafka, acks="all", enable_idempotence=True, max_batch_size=2**18
    )
    await producer.start()
    started = time.perf_counter()
    rows = await connection.fetch(_SELECT, BATCH, [])
    done = 0
    while rows:
        ids = [row[0] for row in rows]
        sending = asyncio.create_task(_send(producer, rows))
        following = await connection.fetch(_SELECT, BATCH, ids)
        await sending
        await connection.execute(_UPDATE, ids)
        done += len(ids)
        rows = following
    took = time.perf_counter() - started
    await producer.stop()
    await connection.close()
    if done != events:
        raise RuntimeError(f"the ceiling sent {done} of {events} events")
    return took


async def _send(producer: Any, rows: Sequence[Any]) -> None:
    partitions = list(range(PARTITIONS))
    batches: dict[int, Any] = {}
    futures = []
    for _, key, topic, event_type, stored in rows:
        seen = orjson.loads(stored)
        headers = [
            ("event_id", seen["event_id"].encode()),
            ("event_type", event_type.encode()),
            ("trace_id", seen["correlation_id"].encode()),
            ("source_service", seen["source_service"].encode()),
            ("schema_version", b"1"),
            ("occurred_at", seen["event_timestamp"].encode()),
            ("content_type", b"application/json"),
        ]
        name, value = key.encode(), stored.encode()
        partition = partition_for(name, partitions, partitions)
        batch = batches.get(partition) or batches.setdefault(partition, producer.create_batch())
        if batch.append(timestamp=None, key=name, value=value, headers=headers) is None:
            futures.append(await producer.send_batch(batch, topic, partition=partition))
            batch = batches[partition] = producer.create_batch()
            batch.append(timestamp=None, key=name, value=value, headers=headers)
    futures += [await producer.send_batch(batch, topic, partition=place) for place, batch in batches.items()]
    await asyncio.gather(*futures)


async def one_by_one(where: Servers, events: int) -> float:
    """Seconds of the loop that everybody writes first: SELECT a hundred, and for each send, wait, UPDATE."""
    connection = await asyncpg.connect(where.dsn)
    producer = AIOKafkaProducer(bootstrap_servers=where.kafka, acks="all", enable_idempotence=True)
    await producer.start()
    started = time.perf_counter()
    for _ in range(0, events, 100):
        for row_id, key, topic, _type, stored in await connection.fetch(_SELECT, 100, []):
            await producer.send_and_wait(topic, stored.encode(), key=key.encode())
            await connection.execute("UPDATE event_outbox SET published_at = now() WHERE id = $1", row_id)
    took = time.perf_counter() - started
    await producer.stop()
    await connection.close()
    return took


def faststream_outbox(workers: int) -> Drain:
    """FastStream's outbox; with one worker it keeps the order, with many it does not."""

    async def drain(where: Servers, events: int) -> float:
        engine = create_async_engine(where.database, pool_size=workers + 5)
        metadata = MetaData()
        table = make_outbox_table(metadata, table_name="faststream_outbox")
        async with engine.begin() as connection:
            await connection.run_sync(metadata.drop_all)
            await connection.run_sync(metadata.create_all)
        outbox = OutboxBroker(engine, outbox_table=table)
        kafka = KafkaBroker(where.kafka, acks="all", enable_idempotence=True, logger=None)
        publisher = kafka.publisher("faststream")
        seen, finished = 0, asyncio.Event()

        @publisher
        @outbox.subscriber(
            "bench", max_workers=workers, fetch_batch_size=500, min_fetch_interval=0.001, terminal_flush_batch_size=100
        )
        async def relay(body: dict[str, Any]) -> dict[str, Any]:
            nonlocal seen
            seen += 1
            if seen == events:
                finished.set()
            return body

        async with engine.begin() as connection:
            for part in range(0, events, 1_000):
                bodies = [envelope(number).model_dump(mode="json") for number in range(part, part + 1_000)]
                await outbox.publish_batch(*bodies, queue="bench", session=connection)
        await kafka.start()
        started = time.perf_counter()
        await outbox.start()
        await finished.wait()
        took = time.perf_counter() - started
        await outbox.stop()
        await kafka.stop()
        await engine.dispose()
        return took

    return drain


async def throughput(where: Servers) -> dict[str, dict[str, float]]:
    """Events a second of each subject, the median of interleaved rounds."""
    subjects: dict[str, tuple[Drain, int]] = {
        "ours": (ours, EVENTS),
        "ceiling": (ceiling, EVENTS),
        "one by one": (one_by_one, LOOP_EVENTS),
        "faststream-outbox, 1 worker": (faststream_outbox(1), PEER_EVENTS),
        "faststream-outbox, 50 workers, unordered": (faststream_outbox(50), PEER_EVENTS),
    }
    rates: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS + 1):  # the first one warms
        for name, (drain, events) in subjects.items():
            if not turn and name not in {"ours", "ceiling"}:
                continue
            topic = f"bench-{turn}-{abs(hash(name))}"
            await make_topic(where.kafka, topic)
            await make_table(where.database)
            await fill(where.dsn, topic, events)
            gc.collect()
            rate = events / await drain(where, events)
            if turn:
                rates[name].append(rate)
                print(f"  {name:<44}{rate:>10.0f} events/s", flush=True)
    return {
        name: {
            "median": round(statistics.median(each)),
            "spread": round(max(each) - min(each)),
            "best": round(max(each)),
        }
        for name, each in rates.items()
    }


async def latency(where: Servers, rate: int = 1_000, seconds: float = 10.0) -> dict[str, float]:
    """Milliseconds from the commit to the mark, on the database's clock, at a steady rate."""
    topic = "bench-latency"
    await make_topic(where.kafka, topic)
    await make_table(where.database)
    engine = create_async_engine(where.database)
    repository = PostgreSQLOutboxRepository(engine, "bench")
    bus = KafkaBus(client_id="bench-latency", bootstrap_servers=where.kafka)
    await bus.start()
    manager = OutboxManager(repository, None, "bench")
    worker = EventRelayWorker(repository, bus, OutboxSettings(batch_size=BATCH), service_name="bench")
    await worker.start()
    await _write_steadily(where, topic, rate, seconds, manager)
    await _emptied(where, 1)
    await worker.stop()
    await bus.stop()
    await engine.dispose()
    connection = await asyncpg.connect(where.dsn)
    row = await connection.fetchrow(
        "SELECT count(*), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP"
        " (ORDER BY extract(epoch FROM published_at - created_at)::float8) FROM event_outbox"
    )
    await connection.close()
    return {"events": row[0], "p50_ms": row[1][0] * 1000, "p99_ms": row[1][1] * 1000, "rate": rate}


async def _write_steadily(where: Servers, topic: str, rate: int, seconds: float, manager: OutboxManager) -> None:
    """Ten events a transaction, as a service would add them, woken in the process."""
    connection = await asyncpg.connect(where.dsn)
    begin, number = time.perf_counter(), 0
    statement = (
        "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at)"
        " SELECT gen_random_uuid(), 'a', 'essay', 'bench.v1', d::json, k, $3, clock_timestamp()"
        " FROM unnest($1::text[], $2::text[]) AS e(d, k)"
    )
    while number < rate * seconds:
        payloads = [envelope_bytes(number + one).decode() for one in range(10)]
        await connection.execute(statement, payloads, [f"essay-{(number + one) % 1000}" for one in range(10)], topic)
        await manager._wake.send()  # noqa: SLF001  # what a commit of a session does
        number += 10
        await asyncio.sleep(max(0.0, begin + number / rate - time.perf_counter()))  # noqa: TID251  # the real clock
    await connection.close()


async def backlog(where: Servers) -> dict[str, float]:
    """Microseconds an event in front of a small backlog and of a million, once the relay is at it."""
    figures = {}
    for size in (1_000, 1_000_000):
        topic = f"bench-backlog-{size}"
        await make_topic(where.kafka, topic)
        await make_table(where.database)
        await fill(where.dsn, topic, size + 3 * EVENTS)
        figures[str(size)] = await _seconds_for(where, EVENTS, 3 * EVENTS) / (2 * EVENTS) * 1e6
    figures["ratio"] = figures["1000000"] / figures["1000"]
    return figures


async def _seconds_for(where: Servers, first: int, last: int) -> float:
    """Seconds in which the relay gets from its ``first`` to its ``last`` event."""
    engine = create_async_engine(where.database)
    bus = KafkaBus(client_id="bench-backlog", bootstrap_servers=where.kafka)
    await bus.start()
    counted = _Counting(bus)
    worker = EventRelayWorker(
        PostgreSQLOutboxRepository(engine, "bench"), counted, OutboxSettings(batch_size=BATCH), service_name="bench"  # type: ignore[arg-type]  # offers what a relay asks for
    )  # fmt: skip
    await worker.start()
    while counted.sent < first:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.005)  # noqa: TID251  # a benchmark goes by the real clock
    begun, started = counted.sent, time.perf_counter()
    while counted.sent < last:  # noqa: ASYNC110  # as above
        await asyncio.sleep(0.005)  # noqa: TID251  # a benchmark goes by the real clock
    took = (time.perf_counter() - started) * (last - first) / (counted.sent - begun)
    await worker.stop()
    await bus.stop()
    await engine.dispose()
    return took


class _Counting:
    def __init__(self, bus: KafkaBus) -> None:
        self._bus = bus
        self.sent = 0

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: Any = None
    ) -> None:
        """Not used: batches go out."""

    async def publish_batch(self, messages: Sequence[Any]) -> Sequence[Any]:
        """Count what was acknowledged."""
        outcomes = await self._bus.publish_batch(messages)
        self.sent += len(outcomes)
        return outcomes


async def main(with_backlog: bool) -> None:  # noqa: FBT001  # a flag of the command line
    """Measure, print, write."""
    logging.disable(logging.CRITICAL)
    configure_service_logging("bench", log_level="CRITICAL")
    with servers() as where:
        figures = await throughput(where)
        memory = [_resident()]
        late = await latency(where, seconds=in_short(10, 1))
        topic = "bench-memory"
        await make_topic(where.kafka, topic)
        await make_table(where.database)
        await fill(where.dsn, topic, MEMORY_EVENTS)
        memory.append(_resident())
        await ours(where, MEMORY_EVENTS)
        memory.append(_resident())
        large = await backlog(where) if with_backlog else None
    content = {
        "unit": "events/s, acks=all, idempotent, 1 000 keys, 600-byte events",
        "parts": {"a full table": figures},
        "latency": late,
        "backlog": large,
        "resident_mib": {"before": memory[1], "after 100 000 more events": memory[2]},
        "versions": versions_of(PEERS),
    }
    print(f"\n  latency at {late['rate']} events/s: p50 {late['p50_ms']:.1f} ms, p99 {late['p99_ms']:.1f} ms")
    for name, row in figures.items():
        print(f"  ours / {name}: {figures['ours']['median'] / row['median']:.2f}")
    print(f"  resident MiB: {content['resident_mib']}; backlog: {large}")
    print(write_result("relay", content))


def _resident() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", action="store_true", help="measure also in front of a million events")
    asyncio.run(main(parser.parse_args().backlog))
