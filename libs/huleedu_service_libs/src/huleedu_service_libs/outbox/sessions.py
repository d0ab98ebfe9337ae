"""A connection for one operation, whose statements the server itself ends in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["bounded"]

_LIMITS = text(
    "SELECT set_config('statement_timeout', :milliseconds, true), set_config('lock_timeout', :milliseconds, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)
_GRACE_S = 5.0  # the server ends a statement by itself; this is for one that no longer answers


@asynccontextmanager
async def bounded(engine: AsyncEngine, seconds: float) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end, in which no statement runs longer than ``seconds``.

    The limits end with the transaction, so a pooler in transaction mode is no obstacle.

    Args:
        engine: Where to.
        seconds: For each statement, on the server; for all of it the same and 5 s.

    Raises:
        TimeoutError: All of it took longer.
        sqlalchemy.exc.DBAPIError: A statement did.
    """
    milliseconds = str(max(1, round(seconds * 1000)))
    async with asyncio.timeout(seconds + _GRACE_S), engine.begin() as connection:
        idle = str(round((seconds + _GRACE_S) * 1000))
        await connection.execute(_LIMITS, {"milliseconds": milliseconds, "idle": idle})
        yield connection
