"""Tells the relay that there is something to do, after the commit and off its path.

Two ways lead to the relay: a list in Redis, for relays in other processes, and
an in-process signal. Both only shorten the wait; a lost wake-up costs one poll
interval. Used by the manager (sending) and the relay (waiting); knows neither.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Coroutine

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncSession, async_scoped_session
from sqlalchemy.orm import Session

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.schedule import Backoff
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["WakeListener", "WakeSender", "wake_key_of"]

SEND_TIMEOUT_SECONDS = 2.0
LISTEN_SECONDS = 2.0  # one BLPOP; well below the socket timeout of 5 s that clients have
COALESCE_SECONDS = 0.005  # wake-ups that come closer together are one
LONGEST_PAUSE_SECONDS = 5.0  # between two attempts while Redis is away
LIST_LIMIT = 1000  # tokens that nobody takes are dropped beyond this
_PENDING = "huleedu_outbox_wake"  # key in Session.info

logger = create_service_logger("huleedu.outbox.wakeup")


def wake_key_of(service_name: str) -> str:
    """The Redis list that carries the wake-ups of a service's outbox."""
    return f"outbox:wake:{service_name}"


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
        self._sending: asyncio.Task[None] | None = None
        self._again = False

    async def send(self) -> None:
        """Wake the relay now; never raises."""
        _notify_this_process()
        if self._redis is not None:
            await self._push(self._redis.lpush(self._key, "wake"))

    async def _push(self, pushing: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                length = await pushing
                if self._redis is not None and _as_int(length) > LIST_LIMIT:
                    await self._redis.delete_key(self._key)
        except Exception as error:  # noqa: BLE001  # the event is stored; polling finds it
            self.note_failure(error)

    def note_failure(self, error: Exception) -> None:
        """Count and log a wake-up that could not be sent."""
        self._metrics.increment_errors("wake_up")
        logger.warning("outbox_wake_up_failed", key=self._key, error=str(error), error_type=type(error).__name__)

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
        _notify_this_process()
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


_listening: weakref.WeakSet["WakeListener"] = weakref.WeakSet()


def _notify_this_process() -> None:
    """Wake every relay of the process, whatever its name: a look for nothing is one empty SELECT."""
    for listener in list(_listening):
        listener.notify()


class WakeListener:
    """What the relay waits on.

    Args:
        redis_client: Where the list is; ``None`` to be woken by this process alone.
        wake_key: The list.
        metrics: Counts what is swallowed.
        sleep: Waits.
    """

    def __init__(
        self,
        redis_client: AtomicRedisClientProtocol | None,
        wake_key: str,
        metrics: OutboxMetrics | None,
        *,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self._redis = redis_client
        self._key = wake_key
        self._metrics = metrics
        self._sleep = sleep
        self._signal = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to listen."""
        self._stopping = False
        self._loop = asyncio.get_running_loop()
        _listening.add(self)
        if self._redis is not None:
            self._task = begin(self._listen(self._redis), name=f"outbox-wake-listener:{self._key}")

    def request_stop(self) -> None:
        """End the wait and, after its present command, the listening; at once, whatever becomes of `stop`."""
        self._stopping = True
        _listening.discard(self)
        self._signal.set()

    async def stop(self) -> None:
        """End listening, within seconds; never raises."""
        self.request_stop()
        task, self._task = self._task, None
        if task is None or self._redis is None:
            return
        try:  # unblocks a BLPOP, which cancelling alone would leave to its connection
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._redis.lpush(self._key, "stop")
        except Exception as error:  # noqa: BLE001  # the cancellation below ends it as well
            self._report(error, first=True)
        # A driver may lose the cancellation when the reply arrives with it; then the flag ends the loop.
        await end(task, limit_s=2 * LISTEN_SECONDS)

    def notify(self) -> None:
        """End the wait, from any thread."""
        if self._loop is None or self._loop.is_closed():
            return
        try:
            same = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            same = False
        if same:
            self._signal.set()
        else:
            self._loop.call_soon_threadsafe(self._signal.set)

    async def wait(self, seconds: float) -> bool:
        """Wait until woken, ``seconds`` at most; whether it was a wake-up."""
        try:
            async with asyncio.timeout(seconds):
                await self._signal.wait()
        except TimeoutError:
            return False
        self._signal.clear()
        return True

    def clear(self) -> None:
        """Forget wake-ups so far; called right before looking, so that later ones count."""
        self._signal.clear()

    async def _listen(self, redis: AtomicRedisClientProtocol) -> None:
        trouble = Backoff()
        while not self._stopping:
            pause = COALESCE_SECONDS  # also keeps a double that answers at once from spinning
            try:
                await self._take(redis)
                trouble.succeeded()
            except Exception as error:  # noqa: BLE001  # polling goes on meanwhile
                pause = trouble.failed(LONGEST_PAUSE_SECONDS)
                self._report(error, first=trouble.failures == 1)
            await self._sleep(pause)

    async def _take(self, redis: AtomicRedisClientProtocol) -> None:
        """Wait for a token; one look serves all that are there, as each was pushed after its rows were visible."""
        item = await redis.blpop(keys=[self._key], timeout=LISTEN_SECONDS)
        if isinstance(item, tuple | list) and item:
            self._signal.set()  # first: the wake-up must not be lost with the next command
            await redis.delete_key(self._key)
            self._signal.set()  # the look that is under way may have missed what the deleted tokens stood for

    def _report(self, error: Exception, *, first: bool) -> None:
        if self._metrics is not None:
            self._metrics.increment_errors("wake_up")
        if first:
            logger.warning(
                "outbox_wake_up_unavailable",
                key=self._key,
                error=str(error),
                error_type=type(error).__name__,
                action="the relay polls until Redis is back",
            )


def _as_int(value: object) -> int:
    return value if isinstance(value, int) else 0  # a double may answer with anything
