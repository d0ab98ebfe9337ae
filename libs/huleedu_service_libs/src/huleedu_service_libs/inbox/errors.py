"""What an inbox refuses, and which errors mean that PostgreSQL is out of reach."""

from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from huleedu_service_libs.store_policy import DeferredError

__all__ = [
    "InboxBusyError",
    "InboxTableMissingError",
    "PayloadMismatchError",
    "is_missing_table",
    "is_outage",
    "is_stale_connection",
]

_UNDEFINED_TABLE = "42P01"
# Connection exceptions, operator intervention (shutdown, starting up), too many connections, disk full, I/O error,
# and a server that is read-only because another one leads now.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OUTAGE_STATES = ("08", "57P", "53", "58", "25006")


class InboxBusyError(DeferredError):
    """Another worker's transaction has held the event for too long; do not commit the offset, deliver it again.

    Attributes:
        consumer: Who claimed.
        event_id: What was claimed.
        waited_s: How long, seconds.
    """

    def __init__(self, *, consumer: str, event_id: UUID | None, waited_s: float) -> None:
        super().__init__(consumer, event_id, waited_s)
        self.consumer = consumer
        self.event_id = event_id
        self.waited_s = waited_s

    def __str__(self) -> str:
        what = f"event {self.event_id}" if self.event_id else "a batch of events"
        return (
            f"The claim of {what} for {self.consumer!r} was not decided within {self.waited_s:g} s: another worker's "
            "transaction holds it (see pg_stat_activity, wait_event transactionid); leave the offset uncommitted"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_busy, (self.consumer, self.event_id, self.waited_s)


def _rebuild_busy(consumer: str, event_id: UUID | None, waited_s: float) -> InboxBusyError:
    return InboxBusyError(consumer=consumer, event_id=event_id, waited_s=waited_s)


class PayloadMismatchError(ValueError):
    """An event has the id of one that was processed, and other data: the producer uses an id twice.

    Attributes:
        consumer: Who processed the first.
        event_id: The id of both.
        event_type: Of the second.
    """

    def __init__(self, *, consumer: str, event_id: UUID, event_type: str) -> None:
        super().__init__(consumer, event_id, event_type)
        self.consumer = consumer
        self.event_id = event_id
        self.event_type = event_type

    def __str__(self) -> str:
        return (
            f"Event {self.event_id} ({self.event_type}) was processed by {self.consumer!r} before, with other data; "
            "it is not processed, because its producer has used one id for two events: give each its own"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_mismatch, (self.consumer, self.event_id, self.event_type)


def _rebuild_mismatch(consumer: str, event_id: UUID, event_type: str) -> PayloadMismatchError:
    return PayloadMismatchError(consumer=consumer, event_id=event_id, event_type=event_type)


class InboxTableMissingError(Exception):
    """The database has no table ``event_inbox``."""

    def __init__(self) -> None:
        super().__init__(
            "The database has no table 'event_inbox': put create_inbox_table(op) "
            "(huleedu_service_libs.inbox.migration) into an Alembic revision, or check the search_path"
        )


def is_outage(error: BaseException) -> bool:
    """Whether the error says that PostgreSQL is out of reach, rather than that it refuses something."""
    if isinstance(error, OSError | TimeoutError | PoolTimeoutError | DisconnectionError):
        return True
    if is_stale_connection(error):
        return True
    state = _state_of(error)
    return state is not None and state.startswith(_OUTAGE_STATES)


def is_stale_connection(error: BaseException | None) -> bool:
    """Whether a connection that had been open turned out to be dead; a new one may work."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_missing_table(error: BaseException) -> bool:
    """Whether a table is unknown to PostgreSQL."""
    return _state_of(error) == _UNDEFINED_TABLE


def _state_of(error: BaseException) -> str | None:
    """The SQLSTATE, of the driver's error or of the one that SQLAlchemy has wrapped."""
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return state if isinstance(state, str) else None
