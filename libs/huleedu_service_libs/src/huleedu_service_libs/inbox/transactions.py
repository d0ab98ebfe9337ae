"""The transaction in which handlers run: it ends with the inbox, and as the inbox believes it did.

`processing` and `batches` open it. A handler that commits would record events whose handlers have not
run yet; one that rolls back takes the inbox' rows with it; one that swallows a database error leaves an aborted
transaction, whose COMMIT PostgreSQL answers with a quiet rollback. None of these may pass for processed.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session, SessionTransaction

from huleedu_service_libs.inbox.errors import InboxTransactionError

__all__ = ["transaction_of"]

_WENT_ON = "went on after an error of the database"
_FAILED = "huleedu_inbox_statement_failed"  # key in Connection.info


@asynccontextmanager
async def transaction_of(session: AsyncSession, consumer: str) -> AsyncIterator[None]:
    """A transaction that is committed at the end, and by nobody else.

    Args:
        session: Has none yet.
        consumer: Whose handlers run in it; for errors.

    Raises:
        InboxTransactionError: A handler committed it, rolled it back, or went on after an error of the database.
    """
    used: list[Connection] = []
    async with session.begin() as transaction:
        with _watched(session.sync_session, consumer, used):
            yield
        if not transaction.is_active:
            broken = session.in_transaction()  # a flush was refused, and the session knows
            raise InboxTransactionError(consumer=consumer, did=_WENT_ON if broken else "called rollback()")
        await session.run_sync(_require_unbroken, used, consumer)


@contextmanager
def _watched(session: Session, consumer: str, used: list[Connection]) -> Iterator[None]:
    """Refuse commits, and note the connections that are used."""

    def begin(_session: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        connection.info.pop(_FAILED, None)
        used.append(connection)

    def refuse(committing: Session) -> None:
        if not committing.in_nested_transaction():  # a savepoint is the handler's own affair
            raise InboxTransactionError(consumer=consumer, did="called commit()")

    listeners: dict[str, Callable[..., None]] = {"after_begin": begin, "before_commit": refuse}
    for name, listener in listeners.items():
        event.listen(session, name, listener)
    try:
        yield
    finally:
        for name, listener in listeners.items():
            event.remove(session, name, listener)


def _require_unbroken(_session: Session, used: Sequence[Connection], consumer: str) -> None:
    """Ask the server, where a statement has failed, whether there is still something to commit."""
    for connection in used:
        if connection.info.pop(_FAILED, False):
            try:
                connection.exec_driver_sql("SELECT 1")
            except DBAPIError as error:
                raise InboxTransactionError(consumer=consumer, did=_WENT_ON) from error


@event.listens_for(Engine, "handle_error")
def _note_failure(context: ExceptionContext) -> None:
    if context.connection is not None and not context.connection.invalidated:
        context.connection.info[_FAILED] = True
