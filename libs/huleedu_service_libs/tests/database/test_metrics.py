"""Prometheus metrics of a service's database, without a database."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock
from weakref import ref

import pytest
from prometheus_client import REGISTRY, Counter, generate_latest
from sqlalchemy import QueuePool, create_engine, event
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.database import (
    DatabaseMetrics,
    DatabaseMetricsProtocol,
    DatabaseMonitoringConfig,
    NoOpDatabaseMetrics,
    PrometheusDatabaseMetrics,
    setup_database_monitoring,
)
from huleedu_service_libs.database.engines import pool_label

from .figures import sample

LOGICAL = {
    "database_query_duration_seconds",
    "database_connections_active",
    "database_connections_idle",
    "database_connections_total",
    "database_connections_overflow",
    "database_connections_acquired_total",
    "database_connections_released_total",
    "database_transactions_total",
    "database_transaction_duration_seconds",
    "database_errors_total",
}


def test_every_figure_arrives_under_its_name_and_labels(service: str) -> None:
    """The collectors, their labels and their buckets are the contract's."""
    metrics = DatabaseMetrics(service_name=service)
    metrics.record_query_duration(operation="select", table="essays", duration=0.004, success=True)
    metrics.record_query_duration("select", "essays", 0.2, success=False)
    metrics.record_connection_acquired(5, 0)
    metrics.record_connection_released(5, 0)
    metrics.record_transaction_duration("store", 0.02)
    metrics.record_database_error("IntegrityError", "insert")
    metrics.set_connection_pool_status(active=1, idle=2, total=3, overflow=0)
    query = {"operation": "select", "table": "essays"}
    assert sample(f"{service}_database_query_duration_seconds_count", **query, result="success") == 1
    assert sample(f"{service}_database_query_duration_seconds_bucket", **query, result="success", le="0.005") == 1
    assert sample(f"{service}_database_query_duration_seconds_bucket", **query, result="error", le="0.1") == 0
    assert sample(f"{service}_database_query_duration_seconds_bucket", **query, result="error", le="10.0") == 1
    assert sample(f"{service}_database_connections_acquired_total") == 1
    assert sample(f"{service}_database_connections_released_total") == 1
    assert sample(f"{service}_database_transactions_total", operation="store", result="success") == 1
    assert sample(f"{service}_database_transaction_duration_seconds_sum", operation="store", result="success") == 0.02
    assert sample(f"{service}_database_errors_total", error_type="IntegrityError", operation="insert") == 1
    assert sample(f"{service}_database_connections_total") == 3
    assert set(metrics.get_metrics()) == LOGICAL


def test_a_second_one_of_a_service_shares_its_collectors(service: str) -> None:
    """Two objects of one name count into the same series."""
    for _ in range(2):
        PrometheusDatabaseMetrics(service).record_database_error("E", "select")
    assert sample(f"{service}_database_errors_total", error_type="E", operation="select") == 2


def test_the_services_own_mapping_keeps_what_it_holds(service: str) -> None:
    """Collectors are added to the caller's dict itself, custom entries stay, and a second service replaces nothing."""
    mapping: dict[str, object] = {"custom": "mine"}
    first = PrometheusDatabaseMetrics(service, mapping)
    second = PrometheusDatabaseMetrics(f"{service}_b", mapping)
    assert mapping["custom"] == "mine"
    assert mapping["database_errors_total"] is first.get_metrics()["database_errors_total"]
    assert second.get_metrics()["database_errors_total"] is not first.get_metrics()["database_errors_total"]
    second.record_database_error("E", "select")
    assert sample(f"{service}_database_errors_total", error_type="E", operation="select") == 0
    assert sample(f"{service}_b_database_errors_total", error_type="E", operation="select") == 1


def test_a_hyphenated_service_has_names_without_quotes(unique_name: str) -> None:
    """Hyphens become underscores, as Prometheus' text format shows them anyhow."""
    PrometheusDatabaseMetrics(unique_name).record_connection_acquired(1, 0)
    name = unique_name.replace("-", "_")
    assert f"\n{name}_database_connections_acquired_total 1.0\n" in generate_latest().decode()


def test_a_cleared_registry_is_survived_and_filled_again(service: str) -> None:
    """Unregistering every collector disturbs no recording, and the next object exports again."""
    metrics = PrometheusDatabaseMetrics(service)
    for collector in metrics.get_metrics().values():
        REGISTRY.unregister(collector)
    metrics.record_database_error("E", "select")
    assert sample(f"{service}_database_errors_total", error_type="E", operation="select") == 0
    again = PrometheusDatabaseMetrics(service)
    again.record_database_error("E", "select")
    assert sample(f"{service}_database_errors_total", error_type="E", operation="select") == 2


def test_a_name_that_somebody_else_has_is_told_and_the_rest_is_there(service: str) -> None:
    """One taken name costs that collector its export alone."""
    theirs = Counter(f"{service}_database_errors", "taken")
    with pytest.warns(RuntimeWarning, match="database_errors_total"):
        metrics = PrometheusDatabaseMetrics(service)
    metrics.record_database_error("E", "select")
    metrics.record_connection_acquired(1, 0)
    assert sample(f"{service}_database_connections_acquired_total") == 1
    REGISTRY.unregister(theirs)


def test_labels_are_bounded(service: str) -> None:
    """Table names out of a generator end in one series for all further ones."""
    metrics = PrometheusDatabaseMetrics(service)
    for number in range(1_500):
        metrics.record_query_duration("select", f"t{number}", 0.1)
    assert sample(
        f"{service}_database_query_duration_seconds_count", operation="other", table="other", result="success"
    ) == pytest.approx(500)


def test_recording_never_raises(service: str) -> None:
    """A value that is no number is counted as an error of the monitoring."""
    before = sample("huleedu_database_monitoring_errors_total", part="metrics")
    PrometheusDatabaseMetrics(service).record_query_duration("select", "t", "long")  # type: ignore[arg-type]
    assert sample("huleedu_database_monitoring_errors_total", part="metrics") == before + 1


def test_doubles_can_be_made_from_port_and_class() -> None:
    """Recording methods stay plain functions in `AsyncMock(spec=...)`."""
    for spec in (DatabaseMetricsProtocol, DatabaseMetrics):
        double = AsyncMock(spec=spec)
        assert not hasattr(double.record_database_error("E", "select"), "__await__")


def test_the_one_that_forgets() -> None:
    """`NoOpDatabaseMetrics` takes everything and has nothing."""
    metrics: DatabaseMetricsProtocol = NoOpDatabaseMetrics("svc")
    metrics.record_query_duration("select", "t", 1.0)
    metrics.record_connection_acquired(1, 0)
    metrics.record_connection_released(1, 0)
    metrics.record_transaction_duration("t", 1.0)
    metrics.record_database_error("E", "t")
    metrics.set_connection_pool_status(1, 1, 1, 1)
    assert NoOpDatabaseMetrics("svc").get_metrics() == {}


@pytest.mark.parametrize("double", [Mock(), AsyncMock(spec=AsyncEngine), Mock(spec=["begin", "dispose", "pool"])])
def test_an_engine_that_is_a_double_is_survived(double: object, service: str) -> None:
    """A service's test may hand over any double; the service starts, unwatched."""
    assert setup_database_monitoring(double, service).service_name == service  # type: ignore[arg-type]


def test_a_synchronous_engine_is_watched(service: str) -> None:
    """Statements, transactions and pool of an `Engine` arrive like those of an `AsyncEngine`."""
    engine = create_engine("sqlite://")
    setup_database_monitoring(engine, service)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE essays (id int)")
        connection.exec_driver_sql("SELECT * FROM essays")
    engine.dispose()
    labels = {"operation": "select", "table": "essays", "result": "success"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == 1
    assert sample(f"{service}_database_transaction_open_seconds_count", outcome="commit") == 1
    assert sample(f"{service}_database_connections_acquired_total") == 1


def test_other_listeners_have_their_turn(service: str) -> None:
    """A listener behind ours is still asked, and one that executes the statement itself is the only one to do so."""
    engine = create_engine("sqlite://")
    setup_database_monitoring(engine, service)
    asked: list[str] = []

    @event.listens_for(engine, "do_execute")
    def execute(cursor: Any, statement: str, parameters: Any, _context: Any) -> bool:
        asked.append(statement)
        cursor.execute(statement.replace("1", "2"), parameters)
        return True

    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT 1 + ?", (5,)).scalar_one() == 7
    engine.dispose()
    assert asked[-1] == "SELECT 1 + ?"
    labels = {"operation": "select", "table": "unknown", "result": "success"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) >= 1


def test_a_watched_engine_is_not_kept_alive(service: str) -> None:
    """Nothing of the monitoring holds an engine that its service has dropped."""
    engine = create_engine("sqlite://")
    setup_database_monitoring(engine, service)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    engine.dispose()
    left = ref(engine)
    del engine, connection
    gc.collect()
    assert left() is None


def test_many_threads_on_one_engine(tmp_path: Path, service: str) -> None:
    """Connections in use are none in the end, and each was counted."""
    engine = create_engine(f"sqlite:///{tmp_path / 'essays'}", poolclass=QueuePool, pool_size=3, max_overflow=2)
    setup_database_monitoring(engine, service)

    def work(_: int) -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(200)))
    with engine.connect():
        assert sample(f"{service}_database_connections_active") == 1
    assert sample(f"{service}_database_connections_active") == 0
    assert sample(f"{service}_database_connections_acquired_total") == 201
    assert sample(f"{service}_database_connection_pending", pool=pool_label(engine)) == 0
    engine.dispose()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("slow_statement_s", -1),
        ("slow_log_interval_s", float("nan")),
        ("explain_timeout_s", 0),
        ("max_tables", 0),
    ],
)
def test_a_wrong_setting_is_named(field: str, value: float) -> None:
    """The error says which setting has which value."""
    with pytest.raises(ValueError, match=rf"{field} must .* got {value}"):
        DatabaseMonitoringConfig(**{field: value})  # type: ignore[arg-type]
