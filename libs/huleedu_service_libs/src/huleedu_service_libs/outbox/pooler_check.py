"""Whether a session is the relay's own, or a pooler's that others use between two statements.

`lane_session` asks before it takes any lock. Knows no lanes.
"""

import asyncio
from contextlib import AsyncExitStack

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox import statements

__all__ = ["SharedSessionError", "refuse_shared_session"]

PROBE_TIMEOUT_S = 2.0
PROBES = 4  # sessions that are opened to see whether one of them gets the relay's server process

logger = create_service_logger("huleedu.outbox.lanes")


class SharedSessionError(RuntimeError):
    """A pooler gives the relay's session to others between two statements, so that its locks are nobody's.

    Attributes:
        pids: The server processes that answered one and the same session, or two sessions at once.
    """

    def __init__(self, *pids: int) -> None:
        self.pids = pids
        which = f" ({', '.join(map(str, pids))})" if pids else ""
        super().__init__(
            f"The outbox relay needs a database session of its own, but shares its server process{which} "
            "with others: a pooler in transaction or statement mode (PgBouncer's pool_mode) stands in between, where "
            "advisory locks are lost. Give the relay an engine that goes to PostgreSQL itself, or to a pool in session mode"
        )


async def refuse_shared_session(engine: AsyncEngine, connection: AsyncConnection) -> None:
    """Look whether the server process stays ours while other sessions are in transactions.

    A pooler in transaction mode has taken it back after the statement: one of the other sessions gets it, or
    this one gets another one next time. Who is connected to the server itself need not ask.

    Args:
        engine: Where the other sessions come from.
        connection: Of the relay, in autocommit.

    Raises:
        SharedSessionError: A pooler shares the session with others.
    """
    try:
        own, port = tuple((await connection.execute(statements.WHO_SERVES)).one())
        if port is None or port != await _local_port(connection):
            await _probe(engine, connection, own)
    except TimeoutError:  # a small pool
        logger.warning("outbox_pooler_check_cut_short", reason="the engine has too few connections to spare")
    except DBAPIError as error:
        if "prepared statement" in str(error):  # one that this session never made, or that another made here
            raise SharedSessionError from error
        raise


async def _probe(engine: AsyncEngine, connection: AsyncConnection, own: int) -> None:
    async with asyncio.timeout(PROBE_TIMEOUT_S), AsyncExitStack() as others:
        for _ in range(PROBES):
            other = await others.enter_async_context(engine.connect())
            taken = int(await other.scalar(statements.WHO_SERVES) or 0)
            now = int(await connection.scalar(statements.WHO_SERVES) or 0)
            if taken == own or now != own:
                raise SharedSessionError(own, taken, now)


async def _local_port(connection: AsyncConnection) -> int | None:
    """The port from which this process is connected, where the driver tells."""
    driver = (await connection.get_raw_connection()).driver_connection
    transport = getattr(driver, "_transport", None)  # asyncpg has no public way
    name = transport.get_extra_info("sockname") if transport is not None else None
    return int(name[1]) if isinstance(name, tuple) else None
