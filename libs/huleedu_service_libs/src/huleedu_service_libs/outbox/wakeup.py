"""What the relay waits on: an in-process signal, and a list in Redis for what other processes have stored.

Both only shorten the wait; a lost wake-up costs one poll interval. The relay uses it, `wake_sending` wakes it; knows
neither.
"""

import asyncio
import weakref

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.schedule import Backoff
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["SEND_TIMEOUT_S", "WakeListener", "notify_this_process", "wake_key_of"]

SEND_TIMEOUT_S = 2.0
"""How long Redis may take for a wake-up."""
LISTEN_S = 2.0  # one BLPOP; well below the socket timeout of 5 s that clients have
COALESCE_S = 0.005  # wake-ups that come closer together are one
LONGEST_PAUSE_S = 5.0  # between two attempts while Redis is away

logger = create_service_logger("huleedu.outbox.wakeup")


def wake_key_of(service_name: str) -> str:
    """The Redis list that carries the wake-ups of a service's outbox."""
    return f"outbox:wake:{service_name}"


_listening: weakref.WeakSet["WakeListener"] = weakref.WeakSet()


def notify_this_process() -> None:
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
        self._troubles = Troubles()
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
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._redis.lpush(self._key, "stop")
        except Exception as error:  # noqa: BLE001  # the cancellation below ends it as well
            self._report(error)
        # A driver may lose the cancellation when the reply arrives with it; then the flag ends the loop.
        await end(task, limit_s=2 * LISTEN_S)

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
        backoff = Backoff()
        while not self._stopping:
            pause = COALESCE_S  # also keeps a double that answers at once from spinning
            try:
                await self._take(redis)
                backoff.succeeded()
                self._note_success()
            except Exception as error:  # noqa: BLE001  # polling goes on meanwhile
                pause = backoff.failed(LONGEST_PAUSE_S)
                self._report(error)
            await self._sleep(pause)

    async def _take(self, redis: AtomicRedisClientProtocol) -> None:
        """Wait for a token; one look serves all that are there, as each was pushed after its rows were visible."""
        item = await redis.blpop(keys=[self._key], timeout=LISTEN_S)
        if isinstance(item, tuple | list) and item:
            self._signal.set()  # first: the wake-up must not be lost with the next command
            await redis.delete_key(self._key)
            self._signal.set()  # the look that is under way may have missed what the deleted tokens stood for

    def _note_success(self) -> None:
        over = self._troubles.worked()
        if over is not None:
            logger.info("outbox_wake_up_trouble_over", key=self._key, side="listener", **over._asdict())

    def _report(self, error: Exception) -> None:
        if self._metrics is not None:
            self._metrics.increment_errors("wake_up")
        if failures := self._troubles.failed(error=error):
            logger.warning(
                "outbox_wake_up_unavailable",
                key=self._key,
                failures=failures,
                error=str(error),
                error_type=type(error).__name__,
                action="the relay polls until Redis is back",
            )
