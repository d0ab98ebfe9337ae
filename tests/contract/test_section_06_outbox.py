"""Section 6: the outbox. Table, ports, manager, relay, metrics, settings of an environment."""

from typing import Any
from unittest.mock import AsyncMock

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.outbox import (
    EventOutbox,
    EventRelayWorker,
    OutboxRepositoryProtocol,
    OutboxSettings,
    monitoring,
)
from huleedu_service_libs.outbox.di import settings_for_environment
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol
from tests.contract.signatures import Wanted, lines

REPOSITORY = """
async {}.add_event(aggregate_id, aggregate_type, event_type, event_data, topic, event_key=None, session=None)
async {}.get_unpublished_events(limit=100)
async {}.mark_event_published(event_id)
async {}.mark_event_failed(event_id, error)
async {}.increment_retry_count(event_id, error)
async {}.get_event_by_id(event_id)
"""
SIGNATURES = """
def outbox.protocols:EventTypeMapperProtocol.get_topic_for_event(event_type)
class outbox.repository:PostgreSQLOutboxRepository(engine, service_name='unknown', enable_metrics=True)
class outbox.manager:OutboxManager(outbox_repository, redis_client=None, service_name='unknown_service')
async outbox.manager:OutboxManager.publish_to_outbox(aggregate_type, aggregate_id, event_type, event_data, topic, message_key=None, headers=None, session=None)
def outbox.manager:resolve_partition_key(event_type, aggregate_id, metadata=None)
class outbox.relay:OutboxSettings(poll_interval_seconds=5.0, batch_size=100, max_retries=5, error_retry_interval_seconds=30.0, enable_metrics=True, enable_wake_notifications=True)
class outbox.relay:EventRelayWorker(outbox_repository, kafka_bus, settings, service_name, redis_client=None, event_mapper=None)
async outbox.relay:EventRelayWorker.start()
async outbox.relay:EventRelayWorker.stop()
class outbox.monitoring:OutboxMetrics(service_name='unknown')
def outbox.monitoring:OutboxMetrics.increment_events_added(event_type)
def outbox.monitoring:OutboxMetrics.increment_published_events(event_type=None)
def outbox.monitoring:OutboxMetrics.increment_failed_events(event_type=None)
def outbox.monitoring:OutboxMetrics.increment_errors(error_type='generic')
def outbox.monitoring:OutboxMetrics.set_queue_depth(depth)
def outbox.monitoring:OutboxMetrics.observe_event_age(age_seconds)
def outbox.monitoring:OutboxMetrics.observe_processing_time(duration_seconds)
class outbox.di:OutboxProvider()
class outbox.di:OutboxSettingsProvider(settings)
"""
BOTH = ("outbox.protocols:OutboxRepositoryProtocol", "outbox.repository:PostgreSQLOutboxRepository")
COLUMNS = [
    ("id", "UUID", False),
    ("aggregate_id", "VARCHAR(255)", False),
    ("aggregate_type", "VARCHAR(100)", False),
    ("event_type", "VARCHAR(255)", False),
    ("event_data", "JSON", False),
    ("event_key", "VARCHAR(255)", True),
    ("topic", "VARCHAR(255)", False),
    ("created_at", "TIMESTAMP WITH TIME ZONE", False),
    ("published_at", "TIMESTAMP WITH TIME ZONE", True),
    ("retry_count", "INTEGER", False),
    ("last_error", "TEXT", True),
]
INDEXES = {
    "ix_event_outbox_unpublished": ["published_at", "created_at"],
    "ix_event_outbox_aggregate": ["aggregate_type", "aggregate_id"],
    "ix_event_outbox_event_type": ["event_type"],
}
COLLECTORS = [
    ("outbox_queue_depth", Gauge, ("service",)),
    ("outbox_events_added", Counter, ("service", "event_type")),
    ("outbox_events_published", Counter, ("service", "event_type")),
    ("outbox_events_failed", Counter, ("service", "event_type")),
    ("outbox_relay_errors", Counter, ("service", "error_type")),
    ("outbox_event_age_seconds", Histogram, ("service",)),
    ("outbox_relay_processing_seconds", Histogram, ("service",)),
]


@pytest.mark.parametrize(
    "wanted", lines("06 outbox", SIGNATURES + "".join(REPOSITORY.replace("{}", name) for name in BOTH)), ids=str
)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def test_table() -> None:
    """Eleven columns and three indexes, in metadata of their own."""
    table = EventOutbox.__table__
    assert isinstance(table, Table)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    assert table.name == EventOutbox.__tablename__ == "event_outbox"
    assert [(c.name, c.type.compile(dialect), c.nullable) for c in table.columns] == COLUMNS
    assert {str(index.name): [column.name for column in index.columns] for index in table.indexes} == INDEXES
    assert list(Base.metadata.tables) == ["event_outbox"]


def test_the_repositorys_port_has_six_methods() -> None:
    """A hand-written repository with these six is complete."""
    assert {name for name in vars(OutboxRepositoryProtocol) if not name.startswith("_")} == {
        line.partition("{}.")[2].partition("(")[0] for line in REPOSITORY.splitlines() if line
    }


@pytest.mark.parametrize(("name", "kind", "labels"), COLLECTORS)
def test_collectors(name: str, kind: type[MetricWrapperBase], labels: tuple[str, ...]) -> None:
    """Collectors of the module, made once, with these names and labels."""
    found = [one for one in vars(monitoring).values() if isinstance(one, kind)]
    assert [one._labelnames for one in found if one._name == name] == [labels]


@pytest.mark.parametrize(
    ("environment", "figures"),
    [
        ("testing", (0.1, 100, 5, 1.0, False, True)),
        ("development", (1.0, 100, 5, 10.0, True, True)),
        ("production", (5.0, 100, 5, 30.0, True, True)),
        ("anything", (5.0, 100, 5, 30.0, True, True)),
        (None, (5.0, 100, 5, 30.0, True, True)),
    ],
)
def test_settings(environment: str | None, figures: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll, batch, retries, pause after an error, metrics, wake-ups; each can be assigned afterwards."""
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    if environment:
        monkeypatch.setenv("ENVIRONMENT", environment.upper())
    s = settings_for_environment()
    assert (
        s.poll_interval_seconds,
        s.batch_size,
        s.max_retries,
        s.error_retry_interval_seconds,
        s.enable_metrics,
        s.enable_wake_notifications,
    ) == figures
    s.poll_interval_seconds = 0.2
    assert s.poll_interval_seconds == 0.2


def test_attributes_of_the_relay() -> None:
    """The list of wake-ups has the service's name; without metrics there are none."""
    worker = EventRelayWorker(
        outbox_repository=AsyncMock(spec=OutboxRepositoryProtocol),
        kafka_bus=AsyncMock(spec=KafkaPublisherProtocol),
        settings=OutboxSettings(enable_metrics=False),
        service_name="svc",
    )
    assert (worker.wake_key, worker.metrics, worker._running, worker._task) == ("outbox:wake:svc", None, False, None)


async def test_the_manager_calls_the_repository_with_keywords() -> None:
    """Everything by keyword, the session always; the key is the aggregate's; one token wakes the relay."""
    repository, redis = AsyncMock(spec=OutboxRepositoryProtocol), AsyncMock(spec=AtomicRedisClientProtocol)
    await OutboxManager(repository, redis, "svc").publish_to_outbox(
        aggregate_type="essay", aggregate_id="a-1", event_type="e.v1", event_data=_envelope(), topic="t"
    )
    keywords = repository.add_event.call_args.kwargs
    assert repository.add_event.call_args.args == ()
    assert set(keywords) == {
        "aggregate_id",
        "aggregate_type",
        "event_type",
        "event_data",
        "topic",
        "event_key",
        "session",
    }
    assert (keywords["event_key"], keywords["session"], keywords["event_data"]["topic"]) == ("a-1", None, "t")
    assert keywords["event_data"]["data"] == {"text": "räksmörgås"}
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")


def _envelope() -> EventEnvelope[Any]:
    return EventEnvelope(event_type="e.v1", source_service="svc", data={"text": "räksmörgås"})


def test_a_missing_event_type_is_unknown() -> None:
    """Counting without an event type counts under `unknown`."""
    labels = {"service": "contract-svc", "event_type": "unknown"}
    OutboxMetrics("contract-svc").increment_published_events()
    assert REGISTRY.get_sample_value("outbox_events_published_total", labels) == 1
