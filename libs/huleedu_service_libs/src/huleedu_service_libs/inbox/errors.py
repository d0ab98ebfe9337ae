"""What an inbox refuses, and what PostgreSQL says when its table or its connection is missing."""

from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError

from huleedu_service_libs.outages import sqlstate_of
from huleedu_service_libs.store_policy import DeferredError

__all__ = [
    "InboxBusyError",
    "InboxTableMissingError",
    "InboxTransactionError",
    "PayloadMismatchError",
    "is_missing_table",
    "is_stale_connection",
]

_UNDEFINED_TABLE = "42P01"


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


class InboxTransactionError(RuntimeError):
    """A handler has ended the inbox' transaction, or broken it and gone on; nothing of it is recorded.

    Attributes:
        consumer: Whose handler.
        did: What it did.
    """

    def __init__(self, *, consumer: str, did: str) -> None:
        super().__init__(consumer, did)
        self.consumer = consumer
        self.did = did

    def __str__(self) -> str:
        return (
            f"A handler of {self.consumer!r} {self.did}: the inbox commits, together with its own row. Let database errors out, "
            "put what may fail or be undone into 'async with session.begin_nested()', and leave commit() and rollback() alone"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_transaction, (self.consumer, self.did)


def _rebuild_transaction(consumer: str, did: str) -> InboxTransactionError:
    return InboxTransactionError(consumer=consumer, did=did)


def is_stale_connection(error: BaseException | None) -> bool:
    """Whether a connection that had been open turned out to be dead; a new one may work."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def is_missing_table(error: BaseException) -> bool:
    """Whether a table is unknown to PostgreSQL."""
    return sqlstate_of(error) == _UNDEFINED_TABLE
