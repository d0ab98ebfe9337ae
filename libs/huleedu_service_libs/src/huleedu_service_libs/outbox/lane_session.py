"""The database session of a relay: it holds the locks of the lanes, and everything a relay does runs on it.

Who has lost the session has lost the lanes, and can complete nothing. The server ends the session of a relay
that is frozen or whose host has vanished: it is told to by settings, and a heartbeat keeps a healthy one.
`lanes` uses it. It knows no events.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import CursorResult, Executable
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.pooler_check import refuse_shared_session
from huleedu_service_libs.outbox.statements import LANES, MEMBERSHIP

__all__ = ["IDLE_LIMIT_S", "LaneSession", "LanesLostError"]

REBALANCE_S = 1.0  # how often a relay counts the others
IDLE_LIMIT_S = 15.0  # after which the server ends the session of a relay that says nothing
HEARTBEATS = 4  # within that time
STATEMENT_TIMEOUT_S = 30.0  # a session that answers nothing for so long is given up
CLOSE_TIMEOUT_S = 5.0

T = TypeVar("T")

logger = create_service_logger("huleedu.outbox.lanes")


class LanesLostError(ConnectionError):
    """The session that owned the lanes has ended; the events will be sent again by whoever owns them now."""

    def __init__(self) -> None:
        super().__init__("The relay's database session is gone, and with it its lanes: nothing is completed")


class LaneSession:
    """One session, and the lanes whose locks it holds.

    Args:
        engine: One of its connections is held.
        metrics: Counts what is swallowed.
        clock: Monotonic seconds.
        sleep: Waits between heartbeats.
        idle_limit_s: After so long without a statement the server ends the session.

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
        idle_limit_s: float = IDLE_LIMIT_S,
    ) -> None:
        self._engine = engine
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._idle_limit = idle_limit_s
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
            await refuse_shared_session(self._engine, connection)
            settings = _settings(self._idle_limit)
            await connection.execute(statements.SETTINGS, {"names": list(settings), "values": list(settings.values())})
            self.lock_space = int(await connection.scalar(statements.LOCK_SPACE) or 0)
            if check is not None:
                await check(connection)
            await connection.execute(statements.JOIN, {"space": self.lock_space, "membership": MEMBERSHIP})
        self._next_rebalance = 0.0
        self._heart = begin(self._beat(), name="outbox-lanes-heartbeat")

    async def balance(self, *, in_flight: bool) -> None:
        """Take or leave lanes when it is time.

        A lane that is to be left is not read from any more at once, and unlocked when its events
        have been settled.

        Args:
            in_flight: Whether events of the last look are being sent.

        Raises:
            LanesLostError: The session has ended, and the lanes with it.
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
        self._next_rebalance = self._clock() + REBALANCE_S

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
        if heart is asyncio.current_task():
            heart = None
        if heart is not None:
            heart.cancel()
        if connection is not None:
            await self._give_up(connection)
        if heart is not None:
            await end(heart, limit_s=CLOSE_TIMEOUT_S)

    async def _give_up(self, connection: AsyncConnection) -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await connection.invalidate()
                await connection.close()
        except Exception as error:  # noqa: BLE001  # the session is given up, its end needs no more of us
            self._metrics.increment_errors("session_close")
            logger.warning("outbox_session_close_failed", **error_fields(error))

    @asynccontextmanager
    async def _guarded(self) -> AsyncIterator[None]:
        """Limit the time of what is done on the session, and give the session up when it fails."""
        try:
            async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                yield
        except BaseException:
            await self.close()
            raise

    async def _beat(self) -> None:
        """Keep the server from ending the session while a batch takes long or nothing happens."""
        while self._connection is not None:
            await self._sleep(self._idle_limit / HEARTBEATS)
            try:
                await self.execute(statements.WHO_SERVES)
            except Exception as error:  # noqa: BLE001  # the session is given up; the next look opens another
                self._metrics.increment_errors("heartbeat")
                logger.warning("outbox_session_lost", **error_fields(error))
                return


def _settings(idle_limit_s: float) -> dict[str, str]:
    return {
        # The planner takes a share of the lanes for a few rows and would rather sort the whole backlog at every
        # batch than walk the index in order. This session runs nothing else, so it may be told.
        "enable_sort": "off",
        # Ids in flight are looked up in a hash table only where the planner knows them.
        "plan_cache_mode": "force_custom_plan",
        # A relay that is frozen while its host answers.
        "idle_session_timeout": str(round(idle_limit_s * 1000)),
        # A host that has vanished is noticed within half a minute; by default after two hours.
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "25000",
    }
