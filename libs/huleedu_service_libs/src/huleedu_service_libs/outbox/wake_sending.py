"""Sends wake-ups: tells the relays that there is something to do, after the commit and off its path.

The manager uses it. Relays of this process are woken directly, those of others through a list in Redis. A wake-up that
is lost costs one poll interval, so nothing here ever fails a transaction. Knows not what relays do (`wakeup` does).
"""

import asyncio
from collections.abc import Awaitable, Coroutine

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session

from huleedu_service_libs._tasks import begin
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.wakeup import SEND_TIMEOUT_S, notify_this_process, wake_key_of
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["WakeSender"]

LIST_LIMIT = 1000  # tokens that nobody takes are dropped beyond this
_PENDING = "huleedu_outbox_wake"  # key in Session.info

logger = create_service_logger("huleedu.outbox.wakeup")


class WakeSender:
    """Sends wake-ups; many commits at a time share one.

    Args:
        redis_client: Carries them to other processes; without it only relays of this process are woken.
        service_name: Names the list.
    """

    def __init__(self, redis_client: AtomicRedisClientProtocol | None, service_name: str) -> None:
        self._redis = redis_client
        self._key = wake_key_of(service_name)
        self._metrics = OutboxMetrics(service_name)
        self._troubles = Troubles()
        self._sending: asyncio.Task[None] | None = None
        self._again = False

    async def send(self) -> None:
        """Wake the relay now; never raises."""
        notify_this_process()
        if self._redis is not None:
            await self._push(self._redis.lpush(self._key, "wake"))

    async def _push(self, pushing: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                length = await pushing
                if self._redis is not None and _as_int(length) > LIST_LIMIT:
                    await self._redis.delete_key(self._key)
        except Exception as error:  # noqa: BLE001  # the event is stored; polling finds it
            self.note_failure(error)
        else:
            over = self._troubles.worked()
            if over is not None:
                logger.info("outbox_wake_up_trouble_over", key=self._key, side="sender", **over._asdict())

    def note_failure(self, error: Exception) -> None:
        """Count a wake-up that could not be sent, and tell it unless the last line has."""
        self._metrics.increment_errors("wake_up")
        if failures := self._troubles.failed(error=error):
            logger.warning(
                "outbox_wake_up_failed",
                key=self._key,
                failures=failures,
                error=str(error),
                error_type=type(error).__name__,
            )

    def send_after_commit(self, session: AsyncSession | async_scoped_session[AsyncSession]) -> bool:
        """Wake the relay when the transaction of ``session`` has committed, and not if it is rolled back.

        Returns:
            ``False`` when ``session`` is not a real session (a test's double), so that nothing will come of it.
        """
        if isinstance(session, async_scoped_session):
            session = session()
        if not issubclass(type(session), AsyncSession):
            return False
        sync_session = session.sync_session
        senders = sync_session.info.get(_PENDING)
        if senders is None:
            senders = sync_session.info[_PENDING] = set()
            event.listen(sync_session, "after_commit", _after_commit)
            event.listen(sync_session, "after_rollback", _after_rollback)
        senders.add(self)
        return True

    def send_soon(self) -> None:
        """Wake the relay from a task of its own; calls that come while it runs share the next one."""
        notify_this_process()
        if self._redis is None:
            return
        loop = asyncio.get_running_loop()
        under_way = self._sending is not None and not self._sending.done() and self._sending.get_loop() is loop
        self._again = under_way
        if not under_way:
            # Called here and only awaited in the task: whoever looks right after the commit finds it asked for.
            pushing = self._redis.lpush(self._key, "wake")
            self._sending = begin(self._push_while_asked(pushing), name=f"outbox-wake:{self._key}")
            self._sending.add_done_callback(lambda _task: _give_up(pushing))

    async def _push_while_asked(self, pushing: Awaitable[object]) -> None:
        try:
            await self._push(pushing)
            while self._again:
                self._again = False
                await self.send()
        finally:
            self._sending = None


def _give_up(pushing: Awaitable[object]) -> None:
    """Its task has ended; if that was cancelled before it began, nobody has awaited this and nobody will."""
    if isinstance(pushing, Coroutine):
        pushing.close()


def _after_commit(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; the rows are not visible yet
    senders: set[WakeSender] = session.info.get(_PENDING, set())
    while senders:
        sender = senders.pop()
        try:
            sender.send_soon()
        except Exception as error:  # noqa: BLE001  # the commit has succeeded, whatever comes of its wake-up
            sender.note_failure(error)


def _after_rollback(session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was given up, not what was stored before it
    session.info.get(_PENDING, set()).clear()


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0  # a double may answer with anything
