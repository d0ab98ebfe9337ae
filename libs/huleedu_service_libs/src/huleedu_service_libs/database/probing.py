"""Asks the database something on a connection of its own, within a time limit that holds.

A check through the pool of the service fails just because the pool is busy, which says nothing of the database. So a
real engine's questions go over one new connection, made as the engine makes its own (address, TLS, listeners) and
closed afterwards. Whatever is no real engine, as tests have it, is asked by ``engine.begin()``.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs._tasks import limited
from huleedu_service_libs.database.pool_watch import PROBING
from huleedu_service_libs.outages import sqlstate_of

__all__ = ["own_engine", "probe"]

T = TypeVar("T")

_TOO_MANY_CONNECTIONS = "53300"
_MAX_STRAYS = 5

_strays: "WeakKeyDictionary[Any, set[asyncio.Future[Any]]]" = WeakKeyDictionary()


async def probe(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]], limit: float) -> T:
    """Run ``work`` in a transaction on a connection of its own.

    Args:
        engine: Of the service.
        work: Takes the connection.
        limit: Seconds for all of it. What does not even end when it is cancelled is left behind; with five left
            behind at an engine no further one is started until one of them ends.

    Raises:
        TimeoutError: It took longer.
        Exception: What connecting or ``work`` raised.
    """
    left_behind = _strays_of(engine)
    if len(left_behind) >= _MAX_STRAYS:
        raise TimeoutError(f"{len(left_behind)} earlier probes hang; the server takes no answer back")

    def left(task: "asyncio.Future[Any]") -> None:
        left_behind.add(task)
        task.add_done_callback(left_behind.discard)

    return await limited(_ask(engine, work), limit_s=limit, left=left)


def _strays_of(engine: Any) -> "set[asyncio.Future[Any]]":
    try:
        return _strays.setdefault(getattr(engine, "sync_engine", engine), set())
    except TypeError:  # no weak references to it
        return set()


async def _ask(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    if not issubclass(type(engine), AsyncEngine):
        return await _ask_by_pool(engine, work)
    try:
        async with _own_connection(engine) as connection:
            return await work(connection)
    except Exception as error:
        # The server has no place for one more: that is no outage for a service whose pool holds connections.
        if sqlstate_of(error) == _TOO_MANY_CONNECTIONS and _has_idle(engine):
            return await _ask_by_pool(engine, work)
        raise


async def _ask_by_pool(engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    async with engine.begin() as connection:
        return await work(connection)


def _has_idle(engine: AsyncEngine) -> bool:
    checked_in: Callable[[], int] | None = getattr(engine.pool, "checkedin", None)
    return checked_in is not None and checked_in() > 0


@asynccontextmanager
async def own_engine(engine: AsyncEngine) -> AsyncIterator[AsyncEngine]:
    """An engine to the same database with a pool of its own, which no metric of ``engine`` counts; disposed of at the end.

    Whoever asks in a task of its own is marked as a probe for the rest of that task.
    """
    PROBING.set(True)  # of this task alone
    sync = engine.sync_engine
    own = AsyncEngine(Engine(sync.pool.recreate(), sync.dialect, sync.url, hide_parameters=True))
    try:
        yield own
    finally:
        await own.dispose()


@asynccontextmanager
async def _own_connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    async with own_engine(engine) as own, own.begin() as connection:
        yield connection
