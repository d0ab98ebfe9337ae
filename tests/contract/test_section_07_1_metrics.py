"""Section 7.1: what a service's database metrics are called, how they are labelled, and how they are set up."""

import inspect
from typing import Any
from unittest.mock import AsyncMock

import pytest
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs import database
from huleedu_service_libs.database import (
    DatabaseHealthChecker,
    DatabaseMetrics,
    DatabaseMetricsProtocol,
    PrometheusDatabaseMetrics,
    QueryPerformanceTracker,
    query_performance_tracker,
    setup_database_monitoring,
)
from huleedu_service_libs.database.metrics import NoOpDatabaseMetrics
from tests.contract.signatures import Wanted
from tests.contract.tables import claimed, signatures

QUERY, TRANSACTION = ("operation", "table", "result"), ("operation", "result")
COLLECTORS: dict[str, tuple[type, tuple[str, ...]]] = {
    "database_query_duration_seconds": (Histogram, QUERY),
    "database_connections_active": (Gauge, ()),
    "database_connections_idle": (Gauge, ()),
    "database_connections_total": (Gauge, ()),
    "database_connections_overflow": (Gauge, ()),
    "database_connections_acquired_total": (Counter, ()),
    "database_connections_released_total": (Counter, ()),
    "database_transactions_total": (Counter, TRANSACTION),
    "database_transaction_duration_seconds": (Histogram, TRANSACTION),
    "database_errors_total": (Counter, ("error_type", "operation")),
}
BUCKETS = ["0.001", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf"]
PREFIXES = (
    "batch_orchestrator_service",
    "bos",
    "essay-lifecycle-service",
    "spell-checker-service",
    "class_management_service",
    "result_aggregator_service",
    "cj_assessment_service",
    "cj_assessment",
    "email_service",
    "entitlements_service",
)


@pytest.mark.parametrize("wanted", signatures(7), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.fixture(name="service")
def _service(unique_name: str) -> str:
    """A service name that is a prefix of metrics as it is."""
    return unique_name.replace("-", "_")


def value(service: str, name: str, **labels: str) -> float:
    """A sample of the default registry; 0 where there is none."""
    return REGISTRY.get_sample_value(f"{service}_{name}", labels) or 0.0


@pytest.mark.contract("7-exports")
def test_what_the_package_hands_out() -> None:
    """Seven names, the same objects as in their modules."""
    named = (DatabaseMetricsProtocol, DatabaseHealthChecker, QueryPerformanceTracker, query_performance_tracker)
    for one in (*named, PrometheusDatabaseMetrics, setup_database_monitoring):
        assert getattr(database, one.__name__) is one


@pytest.mark.contract("7.1-alias")
def test_the_short_name_is_the_class(service: str) -> None:
    """A container looks it up by either name, and it is called by keyword."""
    assert DatabaseMetrics is PrometheusDatabaseMetrics
    assert isinstance(DatabaseMetrics(service_name=service, metrics_dict={}), PrometheusDatabaseMetrics)


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [claimed(f"7.1-metric-{name.replace('_', '-')}", name, *row) for name, row in COLLECTORS.items()],
)
def test_a_collector(service: str, name: str, kind: type, labels: tuple[str, ...]) -> None:
    """Kind and labels, and its name is the service's with the logical name behind it."""
    found = DatabaseMetrics(service).get_metrics()[name]
    assert (type(found), found._labelnames) == (kind, labels)
    exposed = {sample.name for family in found.collect() for sample in family.samples}
    if not labels:
        assert f"{service}_{name}" in exposed
    else:
        assert f"{service}_{name.removesuffix('_total')}" == found._name


@pytest.mark.contract("7.1-buckets")
def test_buckets(service: str) -> None:
    """Twelve bounds and infinity, of queries and of transactions."""
    metrics = DatabaseMetrics(service)
    metrics.record_query_duration("select", "essays", 0.2)
    metrics.record_transaction_duration("store", 0.2)
    for name in ("database_query_duration_seconds", "database_transaction_duration_seconds"):
        (family,) = metrics.get_metrics()[name].collect()
        assert [one.labels["le"] for one in family.samples if one.name.endswith("_bucket")] == BUCKETS


@pytest.mark.contract("7.1-result-label", "7.1-effect-transaction")
def test_durations(service: str) -> None:
    """A query is observed; a transaction is counted and observed; both say how they ended."""
    metrics = DatabaseMetrics(service)
    metrics.record_query_duration(operation="select", table="essays", duration=0.5, success=True)
    metrics.record_query_duration(operation="select", table="essays", duration=0.25, success=False)
    metrics.record_transaction_duration("store", 2.0)
    metrics.record_transaction_duration("store", 1.0, success=False)
    found = [
        value(service, "database_query_duration_seconds_sum", operation="select", table="essays", result=result)
        for result in ("success", "error")
    ]
    assert found == [0.5, 0.25]
    for result, seconds in (("success", 2.0), ("error", 1.0)):
        assert value(service, "database_transactions_total", operation="store", result=result) == 1
        assert value(service, "database_transaction_duration_seconds_sum", operation="store", result=result) == seconds


@pytest.mark.contract("7.1-effect-connections", "7.1-effect-error", "7.1-effect-pool")
def test_counters_and_gauges(service: str) -> None:
    """Connections taken and given back, errors, and the four figures of the pool."""
    metrics = DatabaseMetrics(service)
    metrics.record_connection_acquired(5, 0)
    metrics.record_connection_acquired(pool_size=5, overflow=1)
    metrics.record_connection_released(5, 0)
    metrics.record_database_error("IntegrityError", "insert")
    metrics.set_connection_pool_status(active=3, idle=4, total=7, overflow=2)
    assert value(service, "database_connections_acquired_total") == 2
    assert value(service, "database_connections_released_total") == 1
    assert value(service, "database_errors_total", error_type="IntegrityError", operation="insert") == 1
    gauges = [value(service, f"database_connections_{name}") for name in ("active", "idle", "total", "overflow")]
    assert gauges == [3, 4, 7, 2]


@pytest.mark.contract("7.1-recording-never-raises")
def test_recording_never_raises(service: str) -> None:
    """Not even for what no metric can take."""
    metrics: Any = DatabaseMetrics(service)
    metrics.record_query_duration(None, object(), "not a number")
    metrics.record_transaction_duration(None, object())
    metrics.record_database_error(ValueError, None)
    metrics.record_connection_acquired(None, None)
    metrics.record_connection_released(None, None)
    metrics.set_connection_pool_status(None, "x", object(), [])


@pytest.mark.contract("7.1-get-metrics", "7.1-default-registry", "7.1-second-construction")
def test_a_second_construction_shares_the_collectors(service: str) -> None:
    """The mapping has the logical names, its collectors are exposed by default, and the second has the same."""
    first, second = DatabaseMetrics(service), DatabaseMetrics(service)
    assert set(first.get_metrics()) >= set(COLLECTORS)
    for name in COLLECTORS:
        assert first.get_metrics()[name] is second.get_metrics()[name]
    second.record_connection_acquired(1, 0)
    assert value(service, "database_connections_acquired_total") == 1


@pytest.mark.contract("7.1-service-names")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_of_services(prefix: str) -> None:
    """Each is taken, hyphens or not, and the series has a name that needs no quotes."""
    before = value(prefix.replace("-", "_"), "database_connections_acquired_total")
    DatabaseMetrics(prefix).record_connection_acquired(1, 0)
    assert value(prefix.replace("-", "_"), "database_connections_acquired_total") == before + 1


@pytest.mark.contract("7.1-no-op")
def test_the_one_without_effect(service: str) -> None:
    """Every method of the port, and nothing comes of it."""
    metrics = NoOpDatabaseMetrics(service)
    metrics.record_query_duration("select", "essays", 1.0)
    metrics.record_transaction_duration("store", 1.0)
    metrics.record_database_error("E", "store")
    metrics.record_connection_acquired(1, 0)
    metrics.record_connection_released(1, 0)
    metrics.set_connection_pool_status(1, 2, 3, 4)
    assert metrics.get_metrics() == {}
    assert value(service, "database_connections_acquired_total") == 0


@pytest.mark.contract("7.1-spec-doubles")
@pytest.mark.parametrize("port", [DatabaseMetrics, DatabaseMetricsProtocol])
def test_doubles_by_spec(port: type) -> None:
    """What a double's recording methods give is no coroutine."""
    double = AsyncMock(spec=port)
    for one in (
        double.record_query_duration(operation="o", table="t", duration=1.0, success=True),
        double.record_database_error("E", "o"),
        double.set_connection_pool_status(1, 2, 3, 4),
    ):
        assert not inspect.isawaitable(one)
    with pytest.raises(AttributeError):
        double.record_something_else()


@pytest.mark.contract("7.1-setup-positional", "7.1-setup-dictionary")
def test_setting_up(service: str) -> None:
    """Three by position; the caller's own dictionary gets the collectors and keeps its entries."""
    engine = create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    own: dict[str, Any] = {"request_count": "mine"}
    metrics = setup_database_monitoring(engine, service, own)
    assert isinstance(metrics, DatabaseMetrics)
    assert own["request_count"] == "mine"
    assert set(own) >= set(COLLECTORS)
    assert own["database_errors_total"] is metrics.get_metrics()["database_errors_total"]


@pytest.mark.contract("7.1-setup-repeated")
async def test_setting_up_again(service: str, postgres_database: str) -> None:
    """Twice with one name and once with another: one use of a connection counts once for each name."""
    engine = create_async_engine(postgres_database)
    for name in (service, service, f"{service}_other"):
        setup_database_monitoring(engine, name)
    async with engine.begin() as connection:
        await connection.execute(text("SELECT 1"))
    await engine.dispose()
    for name in (service, f"{service}_other"):
        assert value(name, "database_connections_acquired_total") == 1
        assert value(name, "database_connections_released_total") == 1
