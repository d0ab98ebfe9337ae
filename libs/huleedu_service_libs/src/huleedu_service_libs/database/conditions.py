"""Names the conditions under which PostgreSQL refuses a statement, few enough for a label.

Source: PostgreSQL's documentation, appendix A, error codes.
"""

import asyncio

__all__ = ["condition_of"]

_BY_STATE = {
    "40P01": "deadlock_detected",
    "40001": "serialization_failure",
    "55P03": "lock_not_available",
    "57014": "query_canceled",
    "57P01": "admin_shutdown",
    "57P02": "crash_shutdown",
    "57P03": "cannot_connect_now",
    "57P05": "idle_session_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P02": "in_failed_sql_transaction",
    "23505": "unique_violation",
    "23503": "foreign_key_violation",
    "23502": "not_null_violation",
    "23514": "check_violation",
    "23P01": "exclusion_violation",
    "53100": "disk_full",
    "53200": "out_of_memory",
    "53300": "too_many_connections",
    "42P01": "undefined_table",
    "42703": "undefined_column",
    "42601": "syntax_error",
    "42501": "insufficient_privilege",
    "22001": "string_data_right_truncation",
}
_BY_CLASS = {
    "08": "connection_exception",
    "22": "data_exception",
    "23": "integrity_constraint_violation",
    "25": "invalid_transaction_state",
    "28": "invalid_authorization",
    "40": "transaction_rollback",
    "42": "syntax_error_or_access_rule_violation",
    "53": "insufficient_resources",
    "54": "program_limit_exceeded",
    "55": "object_not_in_prerequisite_state",
    "57": "operator_intervention",
    "58": "system_error",
    "P0": "plpgsql_error",
    "XX": "internal_error",
}


def condition_of(sqlstate: str | None, error: BaseException) -> str:
    """The condition's name: PostgreSQL's, else ``cancelled``, ``timeout`` or ``connection_lost``, else ``other``."""
    if sqlstate is not None:
        return _BY_STATE.get(sqlstate) or _BY_CLASS.get(sqlstate[:2], "other")
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    if isinstance(error, TimeoutError):
        return "timeout"
    # Drivers tell a lost connection in errors of their own, without a code.
    lost = isinstance(error, ConnectionError) or type(error).__name__ in {"InterfaceError", "OperationalError"}
    return "connection_lost" if lost else "other"
