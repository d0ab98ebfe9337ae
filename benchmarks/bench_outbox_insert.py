"""What it costs the client to add an event to the outbox inside a transaction, beside the ORM and FastStream's outbox.

The figure is CPU time of this process (user and system), as the server's time is the same for all and waits
hide it. The ceiling is a prepared INSERT through asyncpg itself. Run by ``make bench SUBJECT=outbox_insert``.
"""

import asyncio
import gc
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from common_core import EventEnvelope
from harness import figure, in_short, rows_of, versions_of, write_result
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs._json import dumps
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.models import EventOutbox
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from outbox_load import Servers, envelope, make_table, servers

EVENTS, ROUNDS = in_short(300, 20), in_short(15, 2)
PEERS = ["faststream-outbox", "faststream", "asyncpg", "sqlalchemy"]
OURS, BULK = "ours: publish_to_outbox", "ours: publish_many_to_outbox, 300 at once"
CEILING = "ceiling: asyncpg, prepared"

Envelopes = Sequence[EventEnvelope[Any]]
Add = Callable[[AsyncSession, Envelopes], Awaitable[None]]


async def _ours(manager: OutboxManager, session: AsyncSession, envelopes: Envelopes) -> None:
    for one in envelopes:
        await manager.publish_to_outbox(
            aggregate_type="essay",
            aggregate_id="essay-1",
            event_type=one.event_type,
            event_data=one,
            topic="bench",
            session=session,
        )


async def _bulk(manager: OutboxManager, session: AsyncSession, envelopes: Envelopes) -> None:
    events = [
        NewEvent(
            aggregate_type="essay", aggregate_id="essay-1", event_type=one.event_type, event_data=one, topic="bench"
        )
        for one in envelopes
    ]
    await manager.publish_many_to_outbox(events, session=session)


async def _orm(session: AsyncSession, envelopes: Envelopes) -> None:
    """What a service writes itself: add and flush."""
    for one in envelopes:
        session.add(
            EventOutbox(
                aggregate_id="essay-1",
                aggregate_type="essay",
                event_type=one.event_type,
                event_data=one.model_dump(mode="json"),
                event_key="essay-1",
                topic="bench",
            )
        )
        await session.flush()


async def _faststream(broker: OutboxBroker, session: AsyncSession, envelopes: Envelopes) -> None:
    for one in envelopes:
        await broker.publish(one.model_dump(mode="json"), queue="bench", session=session)


async def _faststream_bulk(broker: OutboxBroker, session: AsyncSession, envelopes: Envelopes) -> None:
    await broker.publish_batch(*[one.model_dump(mode="json") for one in envelopes], queue="bench", session=session)


_INSERT = (
    "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at,"
    " retry_count) VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), 0)"
)


async def _ceiling(connection: asyncpg.Connection, envelopes: Envelopes) -> float:
    """Microseconds of a prepared statement, the encoding included."""
    transaction = connection.transaction()
    await transaction.start()
    statement = await connection.prepare(_INSERT)
    started = time.process_time()
    for one in envelopes:
        payload = dumps(one.model_dump(mode="json") | {"topic": "bench"}).decode()
        await statement.fetch(uuid7(), "essay-1", "essay", one.event_type, payload, "essay-1", "bench")
    took = time.process_time() - started
    await transaction.rollback()
    return took / len(envelopes) * 1e6


async def _measured(engine: AsyncEngine, add: Add, envelopes: Envelopes) -> float:
    async with AsyncSession(engine) as session:
        _ = await session.connection()  # the transaction has begun, as with business rows in it
        started = time.process_time()
        await add(session, envelopes)
        took = time.process_time() - started
        await session.rollback()
    return took / len(envelopes) * 1e6


async def _rounds(where: Servers) -> dict[str, list[float]]:
    engine = create_async_engine(where.database)
    metadata = MetaData()
    broker = OutboxBroker(engine, outbox_table=make_outbox_table(metadata, table_name="faststream_outbox"))
    await make_table(where.database)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await broker.connect()
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "bench"), None, "bench")
    subjects: dict[str, Add] = {
        OURS: partial(_ours, manager),
        BULK: partial(_bulk, manager),
        "SQLAlchemy ORM: add, flush": _orm,
        "faststream-outbox: publish": partial(_faststream, broker),
        "faststream-outbox: publish_batch, 300 at once": partial(_faststream_bulk, broker),
    }
    bare = await asyncpg.connect(where.dsn)
    envelopes = [envelope(number) for number in range(EVENTS)]
    samples: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS + 1):
        gc.collect()
        for name, add in subjects.items():
            samples[name].append(await _measured(engine, add, envelopes))
        samples[CEILING].append(await _ceiling(bare, envelopes))
        if not turn:
            samples.clear()  # warm
    await bare.close()
    await broker.stop()
    await engine.dispose()
    return samples


async def main() -> None:
    """Measure, print, write."""
    logging.disable(logging.CRITICAL)
    configure_service_logging("bench", log_level="CRITICAL")
    with servers() as where:
        samples = await _rounds(where)
    rows = rows_of({name: figure(each) for name, each in samples.items()})
    print(f"  {'client CPU an event, µs':<48}{'median':>8}{'±':>8}{'best':>8}{'ratio':>8}")
    for name, row in rows.items():
        ratio = row["median"] / rows[OURS]["median"]
        print(f"  {name:<48}{row['median']:>8.0f}{row['spread']:>8.0f}{row['best']:>8.0f}{ratio:>8.2f}")
    content = {
        "unit": "µs of client CPU an event, inside a transaction, 600-byte events",
        "parts": {"an event": rows},
        "versions": versions_of(PEERS),
    }
    print(write_result("outbox_insert", content))


if __name__ == "__main__":
    asyncio.run(main())
