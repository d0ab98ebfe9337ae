"""Seeing inside PostgreSQL: metrics of pool, statements and transactions, health checks, slow queries.

A service calls `setup_database_monitoring` once for each engine and keeps a
`DatabaseHealthChecker` for its health endpoints. Names are handed on lazily.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._extras import check_extra
from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.database.connection_monitoring import ConnectionPoolMonitor, setup_connection_monitoring
    from huleedu_service_libs.database.health_checks import DatabaseHealthChecker
    from huleedu_service_libs.database.metrics import (
        DatabaseMetrics,
        NoOpDatabaseMetrics,
        PrometheusDatabaseMetrics,
        setup_database_monitoring,
    )
    from huleedu_service_libs.database.ports import DatabaseMetricsProtocol
    from huleedu_service_libs.database.query_monitoring import (
        QueryPerformanceTracker,
        query_performance_tracker,
        transaction_performance_tracker,
    )
    from huleedu_service_libs.database.settings import DatabaseMonitoringConfig
    from huleedu_service_libs.database.slow_queries import SlowQuery, recent_slow_queries

check_extra("database", package="sqlalchemy", module=__name__)

__all__ = [
    "ConnectionPoolMonitor",
    "DatabaseHealthChecker",
    "DatabaseMetrics",
    "DatabaseMetricsProtocol",
    "DatabaseMonitoringConfig",
    "NoOpDatabaseMetrics",
    "PrometheusDatabaseMetrics",
    "QueryPerformanceTracker",
    "SlowQuery",
    "query_performance_tracker",
    "recent_slow_queries",
    "setup_connection_monitoring",
    "setup_database_monitoring",
    "transaction_performance_tracker",
]

_HERE = "huleedu_service_libs.database"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ConnectionPoolMonitor": f"{_HERE}.connection_monitoring",
        "DatabaseHealthChecker": f"{_HERE}.health_checks",
        "DatabaseMetrics": f"{_HERE}.metrics",
        "DatabaseMetricsProtocol": f"{_HERE}.ports",
        "DatabaseMonitoringConfig": f"{_HERE}.settings",
        "NoOpDatabaseMetrics": f"{_HERE}.metrics",
        "PrometheusDatabaseMetrics": f"{_HERE}.metrics",
        "QueryPerformanceTracker": f"{_HERE}.query_monitoring",
        "SlowQuery": f"{_HERE}.slow_queries",
        "query_performance_tracker": f"{_HERE}.query_monitoring",
        "recent_slow_queries": f"{_HERE}.slow_queries",
        "setup_connection_monitoring": f"{_HERE}.connection_monitoring",
        "setup_database_monitoring": f"{_HERE}.metrics",
        "transaction_performance_tracker": f"{_HERE}.query_monitoring",
    },
)
