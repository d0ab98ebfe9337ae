"""The values of the relay's metrics, as Prometheus would read them."""

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from ..waiting import until
from .doubles import BatchingPublisher

pytestmark = pytest.mark.integration


def _value(name: str, service: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, **labels}) or 0.0


def _relay(engine: AsyncEngine, publisher: BatchingPublisher, service: str) -> EventRelayWorker:
    settings = OutboxSettings(
        poll_interval_seconds=0.05, error_retry_interval_seconds=0.05, max_retries=3, batch_size=4
    )
    return EventRelayWorker(PostgreSQLOutboxRepository(engine, service), publisher, settings, service)


async def _add(engine: AsyncEngine, service: str, *keys: str) -> None:
    repository = PostgreSQLOutboxRepository(engine, service)
    for key in keys:
        await repository.add_event(
            aggregate_id=key, aggregate_type="essay", event_type="e.v1", event_data={"data": {}}, topic="t"
        )


async def test_what_a_relay_has_done_is_what_its_metrics_say(engine: AsyncEngine) -> None:
    """Six events that leave and one that is poison to the third attempt: sizes, attempts, ages, lanes."""
    service = "metrics-of-one"
    await _add(engine, service, "a", "b", "bad", "c", "d", "e", "f")
    async with engine.begin() as connection:  # ages are told by the database's clock
        await connection.execute(text("UPDATE event_outbox SET created_at = created_at - interval '100 s'"))
    publisher = BatchingPublisher()
    publisher.poison = {b"bad"}
    async with _relay(engine, publisher, service):
        await until(lambda: _value("outbox_events_failed_total", service, event_type="e.v1") == 1)
        assert _value("outbox_relay_lanes", service) == 64
    assert _value("outbox_relay_lanes", service) == 0
    sizes = [len(batch) for batch in publisher.batches]
    assert sum(sizes) == 6 + 3
    assert _value("outbox_batch_size_count", service) == len(sizes)
    assert _value("outbox_batch_size_sum", service) == sum(sizes)
    assert _value("outbox_batch_size_bucket", service, le="2.0") == sum(size <= 2 for size in sizes)
    assert _value("outbox_attempts_failed_total", service) == 3
    assert _value("outbox_relay_errors_total", service, error_type="poison") == 3
    assert _value("outbox_events_published_total", service, event_type="e.v1") == 6
    assert _value("outbox_events_added_total", service, event_type="e.v1") == 7
    for name in ("outbox_acknowledged_after_seconds", "outbox_event_age_seconds"):
        assert _value(f"{name}_count", service) == 6
        assert 6 * 100 <= _value(f"{name}_sum", service) < 6 * 110
        assert _value(f"{name}_bucket", service, le="60.0") == 0
        assert _value(f"{name}_bucket", service, le="300.0") == 6


async def test_a_quick_event_is_told_as_quick(engine: AsyncEngine) -> None:
    """From the addition to the acknowledgement, and not from the start of the process or the relay."""
    service = "metrics-of-a-quick-one"
    async with _relay(engine, BatchingPublisher(), service):
        await until(lambda: _value("outbox_relay_lanes", service) == 64)
        await _add(engine, service, "a")
        await until(lambda: _value("outbox_acknowledged_after_seconds_count", service) == 1)
    assert 0 < _value("outbox_acknowledged_after_seconds_sum", service) < 5


async def test_lanes_are_told_of_each_relay(engine: AsyncEngine) -> None:
    """Two that share the work own 32 each; when one goes, the other owns all, and nothing is told of who is gone."""
    one, two = _relay(engine, BatchingPublisher(), "lanes-1"), _relay(engine, BatchingPublisher(), "lanes-2")
    async with one:
        async with two:
            await until(
                lambda: (_value("outbox_relay_lanes", "lanes-1"), _value("outbox_relay_lanes", "lanes-2")) == (32, 32),
                20,
            )
        assert _value("outbox_relay_lanes", "lanes-2") == 0
        await until(lambda: _value("outbox_relay_lanes", "lanes-1") == 64, 20)
    assert _value("outbox_relay_lanes", "lanes-1") == 0
