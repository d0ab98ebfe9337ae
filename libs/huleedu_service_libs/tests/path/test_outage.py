"""A broker that is really away, for eight minutes by the relay's clock: nothing is parked, nothing overtakes."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from time import monotonic

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.wakeup import WakeListener
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.testing.devstack import DevStack, Kind

from ..topics import read_all

pytestmark = pytest.mark.integration

FASTER = 60.0
AWAY_S = 8.0
EVENTS, KEYS, BATCH = 2000, 20, 100
_ROWS = text(
    "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at)"
    " SELECT gen_random_uuid(), 'key-' || n % :keys, 'a', 'outage.v1',"
    " json_build_object('data', json_build_object('n', n)), 'outage',"
    " clock_timestamp() + n * interval '1 microsecond' FROM generate_series(0, :last) AS n"
)


@pytest.fixture(name="stack", scope="module")
def _stack() -> Iterator[DevStack]:
    """A broker of this test's own: it is stopped."""
    with DevStack(["kafka"], environ={}) as stack:
        if stack.kafka.kind is not Kind.JVM:
            pytest.skip("needs a broker that can be stopped and started: Java and Maven")
        yield stack


class CountingBus(KafkaBus):
    """Notes when batches are handed over."""

    def __init__(self, bootstrap_servers: str) -> None:
        patience = KafkaBusConfig(request_timeout_s=0.5, publish_timeout_s=1.0)
        super().__init__(client_id="outage", bootstrap_servers=bootstrap_servers, config=patience)
        self.batches: list[tuple[float, int]] = []

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """Note it, and hand it on."""
        self.batches.append((monotonic(), len(messages)))
        return await super().publish_batch(messages)


def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the relay's waits pass a minute a second."""
    wait = WakeListener.wait

    async def wait_less(self: WakeListener, seconds: float) -> bool:
        return await wait(self, seconds / FASTER)

    monkeypatch.setattr(WakeListener, "wait", wait_less)


async def _scalar(engine: AsyncEngine, query: str) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(text(query)) or 0)


async def test_an_outage_parks_nothing_and_its_backlog_leaves_in_order(
    engine: AsyncEngine, stack: DevStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stopped broker costs no event an attempt; the relay knocks ever more rarely, and then sends each event once."""
    _hurry(monkeypatch)
    stack.kafka.create_topic("outage", partitions=3)
    bus = CountingBus(stack.kafka.address)
    await bus.start()
    await asyncio.to_thread(stack.kafka.stop)
    async with engine.begin() as connection:
        await connection.execute(_ROWS, {"keys": KEYS, "last": EVENTS - 1})
    worker = EventRelayWorker(
        PostgreSQLOutboxRepository(engine, "outage"),
        bus,
        OutboxSettings(batch_size=BATCH, max_retries=3, error_retry_interval_seconds=30.0),
        "outage",
        clock=lambda: monotonic() * FASTER,
    )
    await worker.start()
    await asyncio.sleep(AWAY_S)
    knocks = len(bus.batches)
    assert 1 <= knocks <= AWAY_S * FASTER / 15 + 8  # the back-off grows to 30 s, of which jitter may take half
    assert await _scalar(engine, "SELECT count(*) FROM event_outbox WHERE published_at IS NOT NULL") == 0

    await asyncio.to_thread(stack.kafka.start)
    async with asyncio.timeout(60.0):
        while await _scalar(engine, "SELECT count(*) FROM event_outbox WHERE published_at IS NULL"):
            await asyncio.sleep(0.1)
    await worker.stop()
    await bus.stop()

    assert await _scalar(engine, "SELECT max(retry_count) FROM event_outbox") == 0  # none parked, none accused
    recovery = bus.batches[knocks:]
    assert max(size for _, size in recovery) <= BATCH  # no burst of everything at once
    assert len(recovery) <= 3 * EVENTS / BATCH + 40  # a while of knocking at a broker that starts, then batch by batch
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for record in await read_all(stack.kafka.address, "outage"):
        by_key[record.key].append(json.loads(record.value)["data"]["n"])
    for numbers in by_key.values():
        firsts = list(dict.fromkeys(numbers))
        assert firsts == sorted(firsts)
    assert sorted({number for numbers in by_key.values() for number in numbers}) == list(range(EVENTS))
