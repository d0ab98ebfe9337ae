"""Adds rows to the outbox in the session of a business transaction, one statement whatever the number of rows.

The repository uses it. On asyncpg the statement goes past the ORM, which would cost more than the rest of an
addition; the payload is encoded here, compact and in UTF-8, so that the relay can pass its text on as it is.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeGuard
from uuid import UUID

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session

from huleedu_service_libs import _json
from huleedu_service_libs.outbox.models import EventOutbox

__all__ = ["NewRow", "insert_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A row that is to be added; see `EventOutbox`."""

    id: UUID
    aggregate_id: str
    aggregate_type: str
    event_type: str
    event_data: dict[str, Any]
    topic: str
    event_key: str | None = None


_COLUMNS = "id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at, retry_count"
# The database's clock at each row, not the start of the transaction; rows of one statement sort by their ids after it.
_ONE = (
    f"INSERT INTO event_outbox ({_COLUMNS})"  # noqa: S608  # constants only
    " VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), 0)"
)
_MANY = (
    f"INSERT INTO event_outbox ({_COLUMNS})"  # noqa: S608  # constants only
    " SELECT id, aggregate_id, aggregate_type, event_type, event_data::json, event_key, topic, clock_timestamp(), 0"
    " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])"
    " AS added(id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic)"
)


async def insert_rows(session: AsyncSession | async_scoped_session[AsyncSession], rows: Sequence[NewRow]) -> None:
    """Add rows and flush what the session holds before them; commits nothing.

    Args:
        session: The transaction; a test's double gets ``add`` and ``flush``.
        rows: In the order in which they shall leave.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The database refused it or is out of reach.
        TypeError: A payload has no JSON form.
    """
    if isinstance(session, async_scoped_session):
        session = session()
    if _speaks_asyncpg(session):
        await session.run_sync(_insert, rows)
        return
    for row in rows:
        session.add(_object_of(row))
    await session.flush()


def _speaks_asyncpg(session: object) -> TypeGuard[AsyncSession]:
    """Whether it is a real session, and the statements here are its driver's."""
    if not issubclass(type(session), AsyncSession):
        return False
    try:
        dialect = session.sync_session.get_bind(EventOutbox).dialect  # type: ignore[attr-defined]  # has just been looked at
    except Exception:  # noqa: BLE001  # no bind for this class: adding it to the session says so
        return False
    return bool(dialect.driver == "asyncpg")


def _insert(session: Session, rows: Sequence[NewRow]) -> None:
    if session.new or session.dirty or session.deleted:
        session.flush()
    values = [
        (
            row.id,
            row.aggregate_id,
            row.aggregate_type,
            row.event_type,
            _json.dumps(row.event_data, any_keys=True).decode(),
            row.event_key,
            row.topic,
        )
        for row in rows
    ]
    try:
        _execute(session, values)
    except DBAPIError:
        _fail_as_a_flush_does(session, rows)
        raise


def _execute(session: Session, values: Sequence[tuple[Any, ...]]) -> None:
    connection = session.connection(bind_arguments={"mapper": EventOutbox})
    if len(values) == 1:
        connection.exec_driver_sql(_ONE, values[0])
    elif values:
        connection.exec_driver_sql(_MANY, tuple(list(column) for column in zip(*values, strict=True)))


def _fail_as_a_flush_does(session: Session, rows: Sequence[NewRow]) -> None:
    """Let the session know that it must be rolled back, as after any refused flush.

    PostgreSQL answers the COMMIT of an aborted transaction with a quiet rollback: whoever swallowed the error and
    committed would take lost work for stored. A flush that fails makes SQLAlchemy refuse that commit.
    """
    with suppress(SQLAlchemyError):  # the first error is the one to tell
        session.add_all([_object_of(row) for row in rows])
        session.flush()


def _object_of(row: NewRow) -> EventOutbox:
    return EventOutbox(**{name: getattr(row, name) for name in NewRow.__dataclass_fields__})
