"""A database connection for somebody who operates an outbox from outside the service: command line, scripts.

Turns an address as people have it into an engine, and the many errors of driver and server into two that say what to do.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

__all__ = ["OutboxRefusedError", "OutboxUnreachableError", "operator_engine"]


class OutboxUnreachableError(ConnectionError):
    """The database does not answer, or lets nobody in."""


class OutboxRefusedError(RuntimeError):
    """The database has answered a statement with an error."""


@asynccontextmanager
async def operator_engine(address: str) -> AsyncIterator[AsyncEngine]:
    """An engine that keeps no connections, disposed of at the end.

    Args:
        address: ``postgresql://user:password@host:port/database``, whichever driver it names.

    Raises:
        ValueError: The address is malformed; the text does not repeat it, for it may hold a password.
        OutboxUnreachableError: The database does not answer.
        OutboxRefusedError: It answered with an error.
    """
    url = _url(address)
    engine = create_async_engine(
        url,
        poolclass=NullPool,
        connect_args={"timeout": 10, "server_settings": {"application_name": "huleedu"}},
    )
    try:
        yield engine
    except DBAPIError as error:
        raise OutboxRefusedError(f"{_place(url)} says: {_reason(error)}") from error
    except SQLAlchemyError as error:
        raise OutboxUnreachableError(f"{_place(url)}: {error}") from error
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.startswith("asyncpg"):
            raise OutboxUnreachableError(
                f"{_place(url)} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        raise
    finally:
        await engine.dispose()


def _url(address: str) -> URL:
    try:
        url = make_url(address)
    except ArgumentError as error:
        raise ValueError("the database address is malformed: postgresql://user@host:port/database is needed") from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"the database address begins with {url.drivername!r}: an outbox is in postgresql")
    return url.set(drivername="postgresql+asyncpg")


def _place(url: URL) -> str:
    return f"database {url.database or url.username or ''!s} on {url.host or 'this host'}:{url.port or 5432}"


def _reason(error: DBAPIError) -> str:
    lines = str(error.orig).splitlines()
    text = lines[0] if lines else type(error).__name__
    return text.partition(">: ")[2] or text
