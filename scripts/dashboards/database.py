"""Connection pools, statements and transactions."""

from dashboards.panels import JOB, Dashboard, Panel, quantile, rate

__all__ = ["DATABASE"]

DATABASE = Dashboard(
    uid="huleedu-database",
    title="HuleEdu databases",
    anchor="database_connections_active",
    panels=[
        Panel(
            title="Connections in use, and the most there can be",
            help="At the limit callers wait: look for long transactions before you raise pool_size.",
            queries={
                "{{service}} in use": f"sum by (service) (database_connections_active{{{JOB}}})",
                "{{service}} limit": f"sum by (service) (database_connection_limit{{{JOB}}})",
            },
        ),
        Panel(
            title="Callers that wait for a connection",
            help="More than none for more than a moment: the pool is too small or its connections are held too long.",
            queries={"{{service}}": f"sum by (service) (database_connection_pending{{{JOB}}})"},
        ),
        Panel(
            title="Wait for a connection",
            help="Opening a new one included.",
            queries={
                "{{service}} p50": quantile(0.5, "database_connection_wait_seconds", "service"),
                "{{service}} p99": quantile(0.99, "database_connection_wait_seconds", "service"),
            },
            unit="s",
        ),
        Panel(
            title="Callers that got none",
            help="They had an error after pool_timeout.",
            queries={"{{service}}": rate("database_connection_timeouts_total", "service")},
            unit="ops",
        ),
        Panel(
            title="Held for, p99",
            help="From having a connection to giving it back. Long: remote calls inside a transaction.",
            queries={"{{service}}": quantile(0.99, "database_connection_use_seconds", "service")},
            unit="s",
        ),
        Panel(
            title="Transactions open for, p99",
            help="By outcome. Long ones hold locks, hold vacuum up, and hold the outbox up where order is strict.",
            queries={
                "{{service}} {{outcome}}": quantile(0.99, "database_transaction_open_seconds", "service, outcome")
            },
            unit="s",
        ),
        Panel(
            title="Statements",
            help="By operation.",
            queries={
                "{{service}} {{operation}}": rate("database_statement_duration_seconds_count", "service, operation")
            },
            unit="ops",
        ),
        Panel(
            title="Slowest statements, p99",
            help="The log has slow_query with the normalised SQL, and its plan where that is switched on.",
            queries={
                "{{service}} {{operation}} {{table}}": "topk(10, "
                + quantile(0.99, "database_statement_duration_seconds", "service, operation, table")
                + ")"
            },
            unit="s",
        ),
        Panel(
            title="Failed statements",
            help="By condition: deadlock_detected, unique_violation, query_canceled, connection_lost, …",
            queries={"{{service}} {{condition}}": rate("database_statement_errors_total", "service, condition")},
            unit="ops",
        ),
        Panel(
            title="Slow statements",
            help="As many as the slow log would have lines.",
            queries={"{{service}} {{table}}": rate("database_slow_statements_total", "service, table")},
            unit="ops",
        ),
        Panel(
            title="Connections opened, and found broken",
            help="Many opened: the pool is smaller than the load, or something cuts idle connections.",
            queries={
                "{{service}} opened": rate("database_connection_create_seconds_count", "service"),
                "{{service}} broken": rate("database_connection_invalidations_total", "service"),
            },
            unit="ops",
        ),
        Panel(
            title="Errors of the monitoring itself",
            help="The service did not notice; the log has a line for each.",
            queries={"{{part}}": rate("huleedu_database_monitoring_errors_total", "part")},
            unit="ops",
        ),
    ],
)
