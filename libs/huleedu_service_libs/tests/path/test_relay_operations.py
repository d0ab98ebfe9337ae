"""A running relay on real servers, operated: strict order, redrive and retention while it works."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox.parked import Selection
from huleedu_service_libs.outbox.redrive import redrive
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.status import read_status

from ..topics import read_all

pytestmark = pytest.mark.integration


def _relay(engine: AsyncEngine, bus: KafkaBus, **settings: Any) -> EventRelayWorker:
    return EventRelayWorker(
        PostgreSQLOutboxRepository(engine, "svc"),
        bus,
        OutboxSettings(**({"poll_interval_seconds": 0.05} | settings)),
        "svc",
    )


async def _add(engine: AsyncEngine, topic: str, number: int, session: AsyncSession | None = None) -> UUID:
    return await PostgreSQLOutboxRepository(engine, "svc").add_event(
        aggregate_id="k",
        aggregate_type="x",
        event_type="e.v1",
        event_data={"data": {"n": number}},
        topic=topic,
        session=session,
    )


async def _until(engine: AsyncEngine, condition: str) -> None:
    async with asyncio.timeout(20):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(text(f"SELECT {condition} FROM event_outbox")):  # noqa: S608  # ours
                    return
            await asyncio.sleep(0.02)


async def _numbers(bootstrap_servers: str, topic: str) -> list[int]:
    return [int(record.value.split(b'"n":')[1].split(b"}")[0]) for record in await read_all(bootstrap_servers, topic)]


async def test_overlapping_transactions_reach_kafka_in_order_where_order_is_strict(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """The later event is committed and waits; both leave in order when the earlier one commits; other relays run too."""
    topic = kafka_topic("strict")
    relays = [_relay(engine, bus, strict_order=True) for _ in range(2)]
    for relay in relays:
        await relay.start()
    async with AsyncSession(engine) as early, AsyncSession(engine) as late:
        await _add(engine, topic, 1, early)
        await _add(engine, topic, 2, late)
        await late.commit()
        await asyncio.sleep(0.5)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(published_at) FROM event_outbox")) == 0
        await early.commit()
    await _until(engine, "count(published_at) = 2")
    for relay in relays:
        await relay.stop()
    assert await _numbers(kafka_bootstrap_servers, topic) == [1, 2]


async def test_a_redriven_event_leaves_through_the_running_relay(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str], kafka_bootstrap_servers: str
) -> None:
    """Parked, seen in the status, redriven to the end of its key, and published without a restart."""
    topic = kafka_topic("redriven")
    parked = await _add(engine, topic, 1)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE event_outbox SET retry_count = 5"))
    await _add(engine, topic, 2)
    relay = _relay(engine, bus)
    await relay.start()
    await _until(engine, "count(published_at) = 1")
    assert (await read_status(engine, service_name="svc")).parked == 1
    result = await redrive(engine, Selection(ids=(parked,)), mode="appended", actor="ada", reason="fixed")
    await _until(engine, "count(published_at) = 2")
    await relay.stop()
    assert result.moved == (parked,)
    assert await _numbers(kafka_bootstrap_servers, topic) == [2, 1]


async def test_a_relay_purges_what_it_has_published(
    engine: AsyncEngine, bus: KafkaBus, kafka_topic: Callable[..., str]
) -> None:
    """With a retention, published events go while the relay runs; parked ones stay."""
    topic = kafka_topic("purged")
    parked = await _add(engine, topic, 1)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE event_outbox SET retry_count = 5"))
    for number in range(10):
        await _add(engine, topic, number)
    relays = [_relay(engine, bus, retention_seconds=0.0, purge_interval_seconds=0.05) for _ in range(2)]
    for relay in relays:
        await relay.start()
    await _until(engine, f"count(*) = 1 AND min(id::text) = '{parked}'")
    for relay in relays:
        await relay.stop()
