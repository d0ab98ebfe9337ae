"""What services record of their database, as a port to mock. Knows no SQLAlchemy and no Prometheus."""

from typing import Protocol

__all__ = ["DatabaseMetricsProtocol"]


class DatabaseMetricsProtocol(Protocol):
    """Takes figures; no method raises."""

    def record_query_duration(self, operation: str, table: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # the contract's signature
        """A query took ``duration`` seconds."""
        ...

    def record_connection_acquired(self, pool_size: int, overflow: int) -> None:
        """A connection was taken out of the pool."""
        ...

    def record_connection_released(self, pool_size: int, overflow: int) -> None:
        """A connection was given back."""
        ...

    def record_transaction_duration(self, operation: str, duration: float, success: bool = True) -> None:  # noqa: FBT001, FBT002  # as above
        """A transaction took ``duration`` seconds."""
        ...

    def record_database_error(self, error_type: str, operation: str) -> None:
        """An operation failed with an error of that class."""
        ...

    def set_connection_pool_status(self, active: int, idle: int, total: int, overflow: int) -> None:
        """So many connections are in use, idle, open at all, and open beyond the pool's size."""
        ...
