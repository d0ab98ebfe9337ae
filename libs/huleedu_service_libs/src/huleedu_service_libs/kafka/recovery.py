"""The background task that sends what waits when the broker is back, though nobody publishes."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.kafka.fallback_metrics import count_fate
from huleedu_service_libs.kafka.fallback_sender import FallbackSender
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Recovery"]

_CANCEL_S = 2.0  # for putting back the message that was under way

logger = create_service_logger("huleedu_service_libs.kafka")


class Recovery:
    """Looks after the queue of one publisher, from `start` to `stop`; may be started again.

    Args:
        sender: Knows what waits, and the breaker.
        process: Sends what waits.
        interval: Seconds between attempts.
    """

    def __init__(
        self, sender: FallbackSender, process: Callable[[], Awaitable[None]], interval: Callable[[], float]
    ) -> None:
        self._sender = sender
        self._process = process
        self._interval = interval
        self._wake = asyncio.Event()
        self._running = False
        self._troubles = Troubles()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, with a look at once when something waits."""
        self._running = True
        task, loop = self._task, asyncio.get_running_loop()
        if task is not None and not task.done() and not task.cancelling() and task.get_loop() is loop:
            return  # a stop that was cancelled has left it
        self._wake = asyncio.Event()  # of the loop that runs now
        if self._sender.handler.has_queued_messages():
            self._wake.set()
        self._task = begin(self._run(), name="kafka-fallback-recovery")

    async def stop(self, seconds: float) -> None:
        """End the task, by cancellation if it takes longer than ``seconds``. What a cancelled one left, the next ends."""
        self._running = False
        if self._task is None:
            return
        self._wake.set()
        await end(self._task, patience_s=seconds, limit_s=_CANCEL_S)
        self._task = None

    def look_again(self) -> None:
        """Have the queue drained now; but what was just refused waits for its interval, however much traffic there is."""
        if self._sender.handler.has_queued_messages() and not self._sender.held_up:
            self._wake.set()

    def may_try(self) -> bool:
        """Whether something waits and the breaker would let it through."""
        breaker = self._sender.breaker
        waits = self._sender.handler.has_queued_messages()
        return waits and (breaker is None or breaker.retry_after() <= 0)

    async def _run(self) -> None:
        while self._running:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()
            if self.may_try():
                await self._try()

    async def _try(self) -> None:
        try:
            await self._process()
        except Exception as error:  # noqa: BLE001  # the task must live; the next round tries again
            count_fate(self._sender.delegate, "recovery_error")
            if failures := self._troubles.failed(error=error):
                logger.error("kafka_recovery_failed", failures=failures, error=error_text(error))  # noqa: TRY400  # the text says it
        else:
            over = self._troubles.worked()
            if over is not None:
                logger.info("kafka_recovery_trouble_over", **over._asdict())

    def _pause(self) -> float:
        """The interval, or less when an open breaker tries again sooner.

        Not at the very moment: where there is traffic, somebody's own message makes the trial.
        """
        breaker, interval = self._sender.breaker, self._interval()
        left = 0.0 if breaker is None else breaker.retry_after()
        if left <= 0 or not self._sender.handler.has_queued_messages():
            return interval
        return min(interval, left + interval / 4)
