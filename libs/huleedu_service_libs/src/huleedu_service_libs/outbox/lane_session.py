"""The database session of a relay: it holds the locks of the lanes, and everything a relay does runs on it.

Who has lost the session has lost the lanes, and can complete nothing. The server ends the session of a relay
that is frozen or whose host has vanished: it is told to by settings, and a heartbeat keeps a healthy one.
`lanes` uses it. It knows no events.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.statements import LANES, MEMBERSHIP

__all__ = ["IDLE_LIMIT_SECONDS", "LaneSession", "LanesLostError", "SharedSessionError"]

REBALANCE_SECONDS = 1.0  # how often a relay counts the others
IDLE_LIMIT_SECONDS = 15.0  # after which the server ends the session of a relay that says nothing
HEARTBEATS = 4  # within that time
STATEMENT_TIMEOUT_SECONDS = 30.0  # a session that answers nothing for so long is given up
CLOSE_TIMEOUT_SECONDS = 5.0
PROBE_TIMEOUT_SECONDS = 2.0
PROBES = 4  # sessions that are opened to see whether one of them gets the relay's server process

T = TypeVar("T")

logger = create_service_logger("huleedu.outbox.lanes")


class LanesLostError(ConnectionError):
    """The session that owned the lanes has ended; the events will be sent again by whoever owns them now."""

    def __init__(self) -> None:
        super().__init__("The relay's database session is gone, and with it its lanes: nothing is completed")


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


class LaneSession:
    """One session, and the lanes whose locks it holds.

    Args:
        engine: One of its connections is held.
        metrics: Counts what is swallowed.
        clock: Monotonic seconds.
        sleep: Waits between heartbeats.
        idle_limit_seconds: After so long without a statement the server ends the session.

    Attributes:
        lanes: Those that are read from.
        lock_space: First number of the relays' advisory locks.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        metrics: OutboxMetrics,
        *,
        clock: _clock.Clock = _clock.monotonic,
        sleep: _clock.Sleep = _clock.sleep,
        idle_limit_seconds: float = IDLE_LIMIT_SECONDS,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._idle_limit = idle_limit_seconds
        self._connection: AsyncConnection | None = None
        self._turn = asyncio.Lock()
        self._heart: asyncio.Task[None] | None = None
        self.lock_space = 0
        self._next_rebalance = 0.0
        self._leaving: set[int] = set()
        self.lanes: set[int] = set()

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._connection is not None

    async def execute(self, statement: Executable, parameters: Mapping[str, Any] | None = None) -> CursorResult[Any]:
        """Run a statement; any error ends the session.

        Raises:
            LanesLostError: There is no session.
        """
        return await self.run(lambda connection: connection.execute(statement, parameters))

    async def run(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do something with the connection; any error ends the session.

        Raises:
            LanesLostError: There is no session.
        """
        async with self._turn, self._guarded():
            if self._connection is None:
                raise LanesLostError
            return await work(self._connection)

    async def open(self, check: Callable[[AsyncConnection], Awaitable[None]] | None = None) -> None:
        """Begin a session and join the relays.

        Args:
            check: Looks at the connection before it joins, and raises where it will not do.

        Raises:
            SharedSessionError: A pooler shares the session with others.
        """
        async with self._turn, self._guarded():
            # Every statement is a transaction of its own: none stays open while Kafka is awaited.
            connection = self._connection = await self._engine.connect()
            self._connection = connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await self._refuse_a_shared_one(connection)
            settings = _settings(self._idle_limit)
            await connection.execute(statements.SETTINGS, {"names": list(settings), "values": list(settings.values())})
            self.lock_space = int(await connection.scalar(statements.LOCK_SPACE) or 0)
            if check is not None:
                await check(connection)
            await connection.execute(statements.JOIN, {"space": self.lock_space, "membership": MEMBERSHIP})
        self._next_rebalance = 0.0
        self._heart = asyncio.create_task(self._beat(), name="outbox-lanes-heartbeat")

    async def balance(self, *, in_flight: bool) -> None:
        """Take or leave lanes when it is time.

        A lane that is to be left is not read from any more at once, and unlocked when its events
        have been settled.

        Args:
            in_flight: Whether events of the last look are being sent.
        """
        if self._leaving:  # marked before the last look, so that nothing of theirs is in flight
            await self._unlock()
        if self._clock() < self._next_rebalance:
            return
        membership = {"space": self.lock_space, "membership": MEMBERSHIP}
        relays, member = tuple((await self.execute(statements.COUNT_RELAYS, membership)).one())
        if not member:
            await self.close()
            raise LanesLostError
        await self._take_share(-(-LANES // max(1, int(relays))), relays, in_flight=in_flight)
        self._next_rebalance = self._clock() + REBALANCE_SECONDS

    async def _take_share(self, share: int, relays: int, *, in_flight: bool) -> None:
        before = len(self.lanes)
        if before > share:
            surplus = set(sorted(self.lanes)[share:])
            self.lanes -= surplus
            self._leaving |= surplus
            if not in_flight:
                await self._unlock()
        elif before < share:
            candidates = [lane for lane in range(LANES) if lane not in self.lanes | self._leaving]
            wanted = {"space": self.lock_space, "candidates": candidates, "wanted": share - before}
            self.lanes.update((await self.execute(statements.ACQUIRE, wanted)).scalars())
        if len(self.lanes) != before:
            self._metrics.set_relay_lanes(len(self.lanes))
            logger.info("outbox_lanes_changed", lanes=len(self.lanes), of=LANES, relays=relays)

    async def _unlock(self) -> None:
        await self.execute(statements.RELEASE, {"space": self.lock_space, "lanes": sorted(self._leaving)})
        self._leaving = set()

    async def close(self) -> None:
        """End the session for good: a pooled connection would keep its advisory locks. Never raises."""
        connection, self._connection = self._connection, None
        heart, self._heart = self._heart, None
        if self.lanes:
            self._metrics.set_relay_lanes(0)
        self.lanes, self._leaving = set(), set()
        if heart is not None and heart is not asyncio.current_task():
            heart.cancel()
        if connection is None:
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                await connection.invalidate()
                await connection.close()
        except Exception as error:  # noqa: BLE001  # the session is given up, its end needs no more of us
            self._metrics.increment_errors("session_close")
            logger.warning("outbox_session_close_failed", error=str(error))

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Limit the time of what is done on the session, and give the session up when it fails."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                yield
        except BaseException:
            await self.close()
            raise

    async def _refuse_a_shared_one(self, connection: AsyncConnection) -> None:
        """Look whether the server process stays ours while other sessions are in transactions.

        A pooler in transaction mode has taken it back after the statement: one of the other sessions gets it, or
        this one gets another one next time. Who is connected to the server itself need not ask.
        """
        try:
            own, port = tuple((await connection.execute(statements.WHO_SERVES)).one())
            if port is None or port != await _local_port(connection):
                await self._probe(connection, own)
        except TimeoutError:  # a small pool
            logger.warning("outbox_pooler_check_cut_short", reason="the engine has too few connections to spare")
        except DBAPIError as error:
            if "prepared statement" in str(error):  # one that this session never made, or that another made here
                raise SharedSessionError from error
            raise

    async def _probe(self, connection: AsyncConnection, own: int) -> None:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS), AsyncExitStack() as others:
            for _ in range(PROBES):
                other = await others.enter_async_context(self._engine.connect())
                taken = int(await other.scalar(statements.WHO_SERVES) or 0)
                now = int(await connection.scalar(statements.WHO_SERVES) or 0)
                if taken == own or now != own:
                    raise SharedSessionError(own, taken, now)

    async def _beat(self) -> None:
        """Keep the server from ending the session while a batch takes long or nothing happens."""
        while self._connection is not None:
            await self._sleep(self._idle_limit / HEARTBEATS)
            try:
                await self.execute(statements.WHO_SERVES)
            except Exception as error:  # noqa: BLE001  # the session is given up; the next look opens another
                self._metrics.increment_errors("heartbeat")
                logger.warning("outbox_session_lost", error=str(error), error_type=type(error).__name__)
                return


async def _local_port(connection: AsyncConnection) -> int | None:
    """The port from which this process is connected, where the driver tells."""
    driver = (await connection.get_raw_connection()).driver_connection
    transport = getattr(driver, "_transport", None)  # asyncpg has no public way
    name = transport.get_extra_info("sockname") if transport is not None else None
    return int(name[1]) if isinstance(name, tuple) else None


def _settings(idle_limit_seconds: float) -> dict[str, str]:
    return {
        # The planner takes a share of the lanes for a few rows and would rather sort the whole backlog at every
        # batch than walk the index in order. This session runs nothing else, so it may be told.
        "enable_sort": "off",
        # Ids in flight are looked up in a hash table only where the planner knows them.
        "plan_cache_mode": "force_custom_plan",
        # A relay that is frozen while its host answers.
        "idle_session_timeout": str(round(idle_limit_seconds * 1000)),
        # A host that has vanished is noticed within half a minute; by default after two hours.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "25000",
    }
