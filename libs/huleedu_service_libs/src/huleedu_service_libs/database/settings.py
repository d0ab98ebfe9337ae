"""What is watched of an engine, and how closely."""

from dataclasses import dataclass

__all__ = ["DatabaseMonitoringConfig"]


@dataclass(frozen=True, kw_only=True)
class DatabaseMonitoringConfig:
    """How `setup_database_monitoring` watches an engine.

    Attributes:
        statements: Time every statement and transaction by SQLAlchemy's events.
        spans: An OpenTelemetry span for each statement inside a span that is recorded.
        slow_statement_seconds: From this duration on a statement is logged, with its SQL but no values.
        slow_log_interval_seconds: One line in this time for each shape of a statement; the line tells how many
            were left out before it.
        explain_slow_statements: Also log the plan of a slow statement. ``EXPLAIN`` without ``ANALYZE``, so nothing
            is run; on a connection of its own, one at a time. Asynchronous engines on PostgreSQL only.
        explain_interval_seconds: At most one plan in this time.
        explain_timeout_seconds: Given up after this time.
        max_tables: Distinct values of the label ``table``; further ones count as ``other``.
    """

    statements: bool = True
    spans: bool = True
    slow_statement_seconds: float = 1.0
    slow_log_interval_seconds: float = 60.0
    explain_slow_statements: bool = False
    explain_interval_seconds: float = 10.0
    explain_timeout_seconds: float = 5.0
    max_tables: int = 200

    def __post_init__(self) -> None:
        for name in ("slow_statement_seconds", "slow_log_interval_seconds", "explain_interval_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}: give seconds, 0 or more")
        if not self.explain_timeout_seconds > 0:
            raise ValueError(f"explain_timeout_seconds is {self.explain_timeout_seconds!r}: give more than 0 seconds")
        if self.max_tables < 1:
            raise ValueError(f"max_tables is {self.max_tables!r}: give 1 or more")
