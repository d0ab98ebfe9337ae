"""Sections 7 and 10 to 14: database, middleware, tracing, logging, the application class, settings."""

from typing import Any

import pytest
from pydantic import SecretStr

from common_core.config_enums import Environment
from huleedu_service_libs.config import SecureServiceSettings
from huleedu_service_libs.database import DatabaseMetrics, PrometheusDatabaseMetrics
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.quart_app import HuleEduApp
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
class database.metrics:PrometheusDatabaseMetrics(service_name, metrics_dict=None)
def database.metrics:PrometheusDatabaseMetrics.record_query_duration(operation, table, duration, success=True)
def database.metrics:PrometheusDatabaseMetrics.record_connection_acquired(pool_size, overflow)
def database.metrics:PrometheusDatabaseMetrics.record_connection_released(pool_size, overflow)
def database.metrics:PrometheusDatabaseMetrics.record_transaction_duration(operation, duration, success=True)
def database.metrics:PrometheusDatabaseMetrics.record_database_error(error_type, operation)
def database.metrics:PrometheusDatabaseMetrics.set_connection_pool_status(active, idle, total, overflow)
def database.metrics:PrometheusDatabaseMetrics.get_metrics()
def database:setup_database_monitoring(engine, service_name, metrics_dict=None)
class database.health_checks:DatabaseHealthChecker(engine, service_name)
async database.health_checks:DatabaseHealthChecker.check_basic_connectivity(timeout=5.0)
async database.health_checks:DatabaseHealthChecker.check_connection_pool_health()
async database.health_checks:DatabaseHealthChecker.check_query_performance(timeout=10.0)
async database.health_checks:DatabaseHealthChecker.check_database_resources()
async database.health_checks:DatabaseHealthChecker.comprehensive_health_check()
async database.health_checks:DatabaseHealthChecker.get_health_summary()
def metrics_middleware:setup_metrics_middleware(app, request_count_metric_name='request_count', request_duration_metric_name='request_duration', status_label_name='status_code', logger_name=None)
def metrics_middleware:setup_standard_service_metrics_middleware(app, service_name)
def metrics_middleware:setup_content_service_metrics_middleware(app)
def metrics_middleware:setup_file_service_metrics_middleware(app)
def middleware.frameworks.fastapi_metrics_middleware:setup_standard_service_metrics_middleware(app, service_name, registry=None)
def middleware.frameworks.quart_middleware:setup_tracing_middleware(app, tracer)
def middleware.frameworks.fastapi_middleware:setup_tracing_middleware(app, tracer)
def observability:init_tracing(service_name)
def observability:get_tracer(service_name)
def observability:trace_operation(tracer, operation_name, attributes=None)
def observability:use_trace_context(carrier)
def observability:inject_trace_context(carrier)
def observability:extract_trace_context(carrier)
def observability:get_current_span()
def observability:get_current_trace_id()
def observability.tracing:add_event_to_span(event_name, attributes=None)
def logging_utils:create_service_logger(name=None)
def logging_utils:configure_service_logging(service_name, environment=None, log_level='INFO')
def logging_utils:log_event_processing(logger, message, envelope, **additional_context)
def config:SecureServiceSettings.is_production()
def config:SecureServiceSettings.is_development()
def config:SecureServiceSettings.is_staging()
def config:SecureServiceSettings.is_testing()
def config:SecureServiceSettings.requires_security()
def config:SecureServiceSettings.database_url_masked(database_url)
def config:SecureServiceSettings.get_db_password()
def config:SecureServiceSettings.get_internal_api_key()
def config:SecureServiceSettings.get_shared_database_credentials()
def config:SecureServiceSettings.get_production_database_credentials()
"""
DATABASE_METRICS = {
    "database_query_duration_seconds": ("operation", "table", "result"),
    "database_connections_active": (),
    "database_connections_idle": (),
    "database_connections_total": (),
    "database_connections_overflow": (),
    "database_connections_acquired_total": (),
    "database_connections_released_total": (),
    "database_transactions_total": ("operation", "result"),
    "database_transaction_duration_seconds": ("operation", "result"),
    "database_errors_total": ("error_type", "operation"),
}


@pytest.mark.parametrize("wanted", lines("07 and 10 to 14", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def test_metrics_of_the_database() -> None:
    """Ten logical names with their labels; the short name is the Prometheus class itself."""
    found = DatabaseMetrics("contract_database").get_metrics()
    assert DatabaseMetrics is PrometheusDatabaseMetrics
    assert {name: tuple(one._labelnames) for name, one in found.items() if name in DATABASE_METRICS} == DATABASE_METRICS


def test_a_logger_works_before_anything_is_configured() -> None:
    """Loggers are made when modules are imported, and take every style of call."""
    logger = create_service_logger("svc.module")
    logger.info("event", key=1, extra={"a": 1})
    logger.bind(x=1).warning("positional %s", "argument")
    create_service_logger().debug("without a name")


def test_the_application() -> None:
    """Places with their initial values; engine and container are not there until a service sets them."""
    app = HuleEduApp("x")
    initial: dict[str, Any] = {
        "tracer": None,
        "consumer_task": None,
        "kafka_consumer": None,
        "event_publisher": None,
        "relay_worker": None,
        "consumer_monitor_task": None,
        "relay_task": None,
        "_consumer_shutdown_requested": False,
    }
    assert {name: getattr(app, name) for name in initial} == initial
    assert (hasattr(app, "database_engine"), hasattr(app, "container"), app.extensions) == (False, False, {})
    vars(app)["timeout_monitor"] = 1


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three fields with these variables, whatever prefix a service sets; no secret in the text."""
    monkeypatch.setenv("HULEEDU_DB_PASSWORD", "geheim-1")
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "geheim-2")
    monkeypatch.setenv("ENVIRONMENT", "staging")

    class Settings(SecureServiceSettings):
        SERVICE_NAME: str = "essay-service"

    found = Settings()
    assert (found.ENVIRONMENT, found.requires_security()) == (Environment.STAGING, True)
    assert (SecretStr("geheim-1"), SecretStr("geheim-2")) == (found.DB_PASSWORD, found.INTERNAL_API_KEY)
    assert (found.get_db_password(), found.get_internal_api_key()) == ("geheim-1", "geheim-2")
    text = "Settings(service=essay-service, environment=staging, secrets=***MASKED***)"
    assert (str(found), repr(found)) == (text, text)
    assert found.database_url_masked("postgresql+asyncpg://u:p@h:5432/d") == "postgresql+asyncpg://u:***@h:5432/d"
