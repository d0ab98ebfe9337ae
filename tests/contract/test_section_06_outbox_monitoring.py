"""Sections 6.6 and 6.7: the outbox's metrics, its settings by environment, and its providers."""

import inspect
import subprocess
import sys
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from dishka import Provider, Scope, make_async_container
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox import (
    EventRelayWorker,
    EventTypeMapperProtocol,
    OutboxProvider,
    OutboxRepositoryProtocol,
    OutboxSettings,
    OutboxSettingsProvider,
    PostgreSQLOutboxRepository,
    monitoring,
)
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[6.6-signatures]
class outbox.monitoring:OutboxMetrics(service_name='unknown')
def outbox.monitoring:OutboxMetrics.increment_events_added(event_type)
def outbox.monitoring:OutboxMetrics.increment_published_events(event_type=None)
def outbox.monitoring:OutboxMetrics.increment_failed_events(event_type=None)
def outbox.monitoring:OutboxMetrics.increment_errors(error_type='generic')
def outbox.monitoring:OutboxMetrics.set_queue_depth(depth)
def outbox.monitoring:OutboxMetrics.observe_event_age(age_seconds)
def outbox.monitoring:OutboxMetrics.observe_processing_time(duration_seconds)
[6.7-provider]
class outbox.di:OutboxProvider()
[6.7-last-wins]
class outbox.di:OutboxSettingsProvider(settings)
"""
COLLECTORS = [
    ("outbox_queue_depth", Gauge, ("service",)),
    ("outbox_events_added", Counter, ("service", "event_type")),
    ("outbox_events_published", Counter, ("service", "event_type")),
    ("outbox_events_failed", Counter, ("service", "event_type")),
    ("outbox_relay_errors", Counter, ("service", "error_type")),
    ("outbox_event_age_seconds", Histogram, ("service",)),
    ("outbox_relay_processing_seconds", Histogram, ("service",)),
]
BUCKETS = {
    "outbox_event_age_seconds": [0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 3600],
    "outbox_relay_processing_seconds": [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
}
USED = """
metrics.increment_events_added("e.v1")
metrics.increment_published_events("e.v1")
metrics.increment_failed_events("e.v1")
metrics.increment_errors("kafka")
metrics.set_queue_depth(3)
metrics.observe_event_age(2.5)
metrics.observe_processing_time(0.02)
"""


@pytest.mark.parametrize("wanted", lines("06 outbox metrics and providers", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


# 6.6


@pytest.mark.contract("6.6-collectors")
@pytest.mark.parametrize(("name", "kind", "labels"), COLLECTORS)
def test_collectors(name: str, kind: type[MetricWrapperBase], labels: tuple[str, ...]) -> None:
    """Collectors of the module, made once, with these names and labels."""
    found = [one for one in vars(monitoring).values() if isinstance(one, kind)]
    assert [one._labelnames for one in found if one._name == name] == [labels]


@pytest.mark.contract("6.6-collectors", "6.6-signatures")
def test_each_method_moves_its_series() -> None:
    """Counted under the service's name, in the default registry; without a type under `unknown`."""
    metrics = OutboxMetrics("contract-svc")
    exec(USED, {"metrics": metrics})  # noqa: S102  # the same lines run in another process below
    metrics.increment_published_events()
    metrics.increment_failed_events()
    metrics.increment_errors()

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"service": "contract-svc", **labels})

    for name in ("outbox_events_added_total", "outbox_events_published_total", "outbox_events_failed_total"):
        assert value(name, event_type="e.v1") == 1, name
    assert value("outbox_events_published_total", event_type="unknown") == 1
    assert value("outbox_events_failed_total", event_type="unknown") == 1
    assert value("outbox_relay_errors_total", error_type="kafka") == 1
    assert value("outbox_relay_errors_total", error_type="generic") == 1
    assert value("outbox_queue_depth") == 3
    assert (value("outbox_event_age_seconds_sum"), value("outbox_relay_processing_seconds_sum")) == (2.5, 0.02)


@pytest.mark.contract("6.6-buckets")
@pytest.mark.parametrize(("name", "buckets"), BUCKETS.items())
def test_buckets(name: str, buckets: list[float]) -> None:
    """As the dashboards expect them, and infinity."""
    (found,) = (one for one in vars(monitoring).values() if isinstance(one, Histogram) and one._name == name)
    assert found._upper_bounds == [*buckets, float("inf")]


@pytest.mark.contract("6.6-unregistered")
def test_an_emptied_registry_harms_nothing() -> None:
    """In a process whose registry was emptied, metrics still count, and new instances register nothing."""
    code = f"""
from prometheus_client import REGISTRY
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
metrics = OutboxMetrics("before")
for collector in list(REGISTRY._collector_to_names):
    REGISTRY.unregister(collector)
{USED}
metrics = OutboxMetrics("after")
{USED}
assert not REGISTRY._collector_to_names, REGISTRY._collector_to_names
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr


# 6.7


def _service() -> Provider:
    """What a service brings."""
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: Mock(spec=AsyncEngine), provides=AsyncEngine)
    provider.provide(lambda: "my-service", provides=str)
    provider.provide(lambda: AsyncMock(spec=KafkaPublisherProtocol), provides=KafkaPublisherProtocol)
    provider.provide(lambda: AsyncMock(spec=AtomicRedisClientProtocol), provides=AtomicRedisClientProtocol)
    return provider


async def _get(container: Any, key: Any) -> Any:
    return await container.get(key)


@pytest.mark.contract("6.7-provider")
async def test_the_provider_gives_the_whole_outbox() -> None:
    """Four things, made of the service's four, and of each other."""
    container = make_async_container(_service(), OutboxProvider())
    repository, relay = await _get(container, OutboxRepositoryProtocol), await _get(container, EventRelayWorker)
    assert isinstance(repository, PostgreSQLOutboxRepository)
    assert isinstance(relay, EventRelayWorker)
    assert relay.outbox_repository is repository
    assert relay.settings is await _get(container, OutboxSettings)
    assert (relay.kafka_bus, relay.redis_client) == (
        await _get(container, KafkaPublisherProtocol),
        await _get(container, AtomicRedisClientProtocol),
    )
    assert (relay.service_name, relay.wake_key) == ("my-service", "outbox:wake:my-service")
    assert await _get(container, EventTypeMapperProtocol | None) is None
    await container.close()


@pytest.mark.contract("6.7-method-names")
def test_the_names_of_the_providers_methods() -> None:
    """Four names, none of them awaited."""
    names = ("settings", "repository")
    methods = [f"provide_outbox_{name}" for name in names] + ["provide_event_type_mapper", "provide_event_relay_worker"]
    provider = OutboxProvider()
    assert provider.scope is Scope.APP
    for name in methods:
        assert hasattr(provider, name), name
        assert not inspect.iscoroutinefunction(getattr(provider, name))


@pytest.mark.contract("6.7-last-wins")
async def test_the_last_provider_wins() -> None:
    """A service's own repository gives way to the provider's behind it, and its settings to the given ones."""
    own, settings = Provider(scope=Scope.APP), OutboxSettings(batch_size=3)
    own.provide(lambda: AsyncMock(spec=OutboxRepositoryProtocol), provides=OutboxRepositoryProtocol)
    container = make_async_container(_service(), own, OutboxProvider(), OutboxSettingsProvider(settings))
    assert isinstance(await _get(container, OutboxRepositoryProtocol), PostgreSQLOutboxRepository)
    assert await _get(container, OutboxSettings) is settings
    assert (await _get(container, EventRelayWorker)).settings is settings
    await container.close()


@pytest.mark.contract("6.7-environment")
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
@pytest.mark.parametrize("write", [str.lower, str.upper])
async def test_settings(
    environment: str | None, figures: tuple[Any, ...], write: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Poll, batch, retries, pause after an error, metrics, wake-ups; the case of the name does not matter."""
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    if environment:
        monkeypatch.setenv("ENVIRONMENT", write(environment))
    container = make_async_container(_service(), OutboxProvider())
    s = await _get(container, OutboxSettings)
    assert (
        s.poll_interval_seconds,
        s.batch_size,
        s.max_retries,
        s.error_retry_interval_seconds,
        s.enable_metrics,
        s.enable_wake_notifications,
    ) == figures
    assert ((await _get(container, EventRelayWorker)).metrics is None) == (not s.enable_metrics)
    await container.close()
