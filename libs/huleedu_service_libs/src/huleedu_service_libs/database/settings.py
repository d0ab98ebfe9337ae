"""What is watched of an engine, and how closely."""

from dataclasses import dataclass

from huleedu_service_libs._checks import at_least_one, not_negative, positive, values_of

__all__ = ["DatabaseMonitoringConfig"]


@dataclass(frozen=True, kw_only=True)
class DatabaseMonitoringConfig:
    """How `setup_database_monitoring` watches an engine.

    Attributes:
        statements: Time every statement and transaction by SQLAlchemy's events.
        spans: An OpenTelemetry span for each statement inside a span that is recorded.
        slow_statement_s: From this duration on a statement is logged, with its SQL but no values.
        slow_log_interval_s: One line in this time for each shape of a statement; the line tells how many
            were left out before it.
        explain_slow_statements: Also log the plan of a slow statement. ``EXPLAIN`` without ``ANALYZE``, so nothing
            is run; on a connection of its own, one at a time. Asynchronous engines on PostgreSQL only.
        explain_interval_s: At most one plan in this time.
        explain_timeout_s: Given up after this time.
        max_tables: Distinct values of the label ``table``; further ones count as ``other``.

    Raises:
        ValueError: A figure is out of its range; the text names it.
    """

    statements: bool = True
    spans: bool = True
    slow_statement_s: float = 1.0
    slow_log_interval_s: float = 60.0
    explain_slow_statements: bool = False
    explain_interval_s: float = 10.0
    explain_timeout_s: float = 5.0
    max_tables: int = 200

    def __post_init__(self) -> None:
        not_negative(**values_of(self, "slow_statement_s", "slow_log_interval_s", "explain_interval_s"))
        positive(explain_timeout_s=self.explain_timeout_s)
        at_least_one(max_tables=self.max_tables)
