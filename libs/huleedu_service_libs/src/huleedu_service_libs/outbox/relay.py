"""The relay: takes events from the outbox to Kafka, in order per key, at least once.

A service starts one in its lifecycle (any number of processes share the work,
see `lanes`). One loop, whose steps are the `pipeline`'s: a SELECT for a batch, one publish,
an UPDATE, and no transaction open meanwhile. This module is its life: start, stop,
back-off after trouble, the wait when there is nothing to do. Knows storage and Kafka only through their ports.
"""

import asyncio
import random
from collections.abc import Callable

from huleedu_service_libs import _clock
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.adapter import store_of
from huleedu_service_libs.outbox.delivery import sender_for
from huleedu_service_libs.outbox.maintenance import OutboxMaintenance
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.pipeline import Pipeline
from huleedu_service_libs.outbox.protocols import (
    EventTypeMapperProtocol,
    OutboxBatchStore,
    OutboxRepositoryProtocol,
)
from huleedu_service_libs.outbox.reporting import Reporter
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.schedule import Backoff
from huleedu_service_libs.outbox.setbacks import Setbacks
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.wakeup import WakeListener, wake_key_of
from huleedu_service_libs.protocols import (
    AtomicRedisClientProtocol,
    KafkaPublisherProtocol,
    concrete_capability,
)

__all__ = ["EventRelayWorker", "OutboxSettings"]

STOP_GRACE_S = 10.0  # for the batch in flight
CANCEL_GRACE_S = 5.0  # for a cancelled one
LEAST_POLL_S = 0.01  # a setting of 0 would ask the database without a pause
SHARED_POLL_S = 0.25  # a wake-up may have reached another relay

logger = create_service_logger("huleedu.outbox.relay")


class EventRelayWorker(StartStop):
    """Publishes the events of an outbox until it is stopped.

    Args:
        outbox_repository: `PostgreSQLOutboxRepository`, or anything with its six protocol methods
            (then at most one relay at a time may run).
        kafka_bus: Batches go to a publisher whose class has ``publish_batch``, single envelopes to any other.
        settings: Read as the relay goes, so changes take effect.
        service_name: Label of metrics, name of the wake-up list, stand-in for a missing ``source_service``.
        redis_client: Carries wake-ups; without it the relay is woken by its own process and by polling.
        event_mapper: Kept for services that pass one; the topic comes from the row.
        clock: Monotonic seconds.
        jitter: A number in [0, 1) at each call, spreads retries.
    """

    def __init__(
        self,
        outbox_repository: OutboxRepositoryProtocol,
        kafka_bus: KafkaPublisherProtocol,
        settings: OutboxSettings,
        service_name: str,
        redis_client: AtomicRedisClientProtocol | None = None,
        event_mapper: EventTypeMapperProtocol | None = None,
        *,
        clock: _clock.Clock = _clock.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.outbox_repository = outbox_repository
        self.kafka_bus = kafka_bus
        self.settings = settings
        self.service_name = service_name
        self.redis_client = redis_client
        self.event_mapper = event_mapper
        self.wake_key = wake_key_of(service_name)
        self.metrics: OutboxMetrics | None = OutboxMetrics(service_name) if settings.enable_metrics else None
        self._clock = clock
        self._sender = sender_for(kafka_bus, service_name)
        self._setbacks = Setbacks(clock, jitter)
        self._reporter = Reporter(service_name, self.metrics, clock=clock)
        self._storage_backoff = Backoff(jitter)
        self._empty_looks = 0
        self._running = False
        self._task: asyncio.Task[None] | None = None
        self._wake: WakeListener | None = None

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive; for health checks."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Schedule the relay and return; does nothing but warn when it runs already.

        Raises:
            ValueError: A setting is no sound figure, or strict order is asked of a repository that cannot keep it.
        """
        if self.is_running:
            logger.warning("outbox_relay_already_running", service=self.service_name)
            return
        self.settings.check()
        if self.settings.strict_order and concrete_capability(self.outbox_repository, "batch_store") is None:
            raise ValueError(
                f"OutboxSettings.strict_order: {type(self.outbox_repository).__name__} cannot tell running writers;"
                " use PostgreSQLOutboxRepository, or switch strict_order off"
            )
        if self._wake is not None:  # of a loop that has died
            await self._wake.stop()
        self._running = True
        listens = self.settings.enable_wake_notifications
        self._wake = WakeListener(self.redis_client if listens else None, self.wake_key, self.metrics)
        self._wake.start()
        self._task = begin(  # says why it has ended if nobody asked it to; start() begins anew
            self._run(self._wake), name=f"outbox-relay:{self.service_name}", died=self._reporter.died
        )
        logger.info("outbox_relay_started", service=self.service_name)

    async def stop(self) -> None:
        """Finish the batch in flight, within 10 s, and end, within 15 s; does nothing when not running.

        A batch that does not finish in time is sent again by the next relay; no attempt is counted.
        """
        if not self._running:
            return
        self._running = False
        task, self._task = self._task, None
        wake, self._wake = self._wake, None
        if task is not None and wake is not None:
            wake.request_stop()  # before anything is awaited, so that it holds also if this call is cancelled
            await asyncio.gather(wake.stop(), self._finish(task))
        logger.info("outbox_relay_stopped", service=self.service_name, finished=task is None or task.done())

    async def _finish(self, task: asyncio.Task[None]) -> None:
        _, pending = await asyncio.wait([task], timeout=STOP_GRACE_S)
        if pending:
            logger.warning("outbox_relay_stop_cancels_batch", service=self.service_name, after=STOP_GRACE_S)
            await end(task, limit_s=CANCEL_GRACE_S)

    async def _run(self, wake: WakeListener) -> None:
        store = store_of(self.outbox_repository, self.settings)
        pipeline = self._pipeline(store)
        chores = self._chores(store)
        if chores is not None:
            chores.start()
        try:
            while self._running:
                pause = await self._guarded_cycle(pipeline, store, wake)
                if pause > 0 and self._running:
                    await wake.wait(pause)
                else:
                    await _clock.sleep(0)  # doubles may never suspend; others want to run, too
            await self._finish_pipeline(pipeline)
        finally:
            await store.close()
            if chores is not None:
                await chores.stop()

    def _pipeline(self, store: OutboxBatchStore) -> Pipeline:
        return Pipeline(
            store=store,
            sender=self._sender,
            settings=self.settings,
            setbacks=self._setbacks,
            reporter=self._reporter,
            metrics=self.metrics,
            keep_going=lambda: self._running,
            clock=self._clock,
        )

    def _chores(self, store: OutboxBatchStore) -> OutboxMaintenance | None:
        """What is done beside relaying, where the table is within reach; the owner of the first lane purges."""
        if not isinstance(self.outbox_repository, PostgreSQLOutboxRepository):
            return None
        return OutboxMaintenance(
            self.outbox_repository.engine,
            self.settings,
            self.service_name,
            is_turn=lambda: 0 in getattr(store, "lanes", (0,)),
        )

    async def _guarded_cycle(self, pipeline: Pipeline, store: OutboxBatchStore, wake: WakeListener) -> float:
        """One cycle; seconds until the next. Trouble, as a rule with the storage, is survived."""
        try:
            pause = await self._cycle(pipeline, store, wake)
        except Exception as error:  # noqa: BLE001  # every kind of trouble ends in a back-off, counted and logged
            delay = self._storage_backoff.failed(self.settings.error_retry_interval_seconds)
            self._reporter.storage_trouble(error, delay)
            return await self._back_off(delay)
        self._storage_backoff.succeeded()
        self._reporter.storage_works()
        return pause

    async def _finish_pipeline(self, pipeline: Pipeline) -> None:
        try:
            await pipeline.finish()
        except Exception as error:  # noqa: BLE001  # the next relay sends again what was not stored
            self._reporter.storage_trouble(error, 0.0)

    async def _cycle(self, pipeline: Pipeline, store: OutboxBatchStore, wake: WakeListener) -> float:
        blocked = self._setbacks.blocked_seconds()
        if blocked > 0:
            await pipeline.finish()
            return await self._back_off(blocked)
        wake.clear()
        if not await pipeline.step():
            self._empty_looks += 1
            return self._idle_seconds(shared=store.shared)
        self._empty_looks = 0
        if self._setbacks.reaches_nothing:
            await pipeline.finish()
            await store.close()  # another relay may reach what this one cannot
        return 0.0

    async def _back_off(self, seconds: float) -> float:
        """Wait, ended by nothing but ``stop()``: a wake-up does not shorten a back-off."""
        deadline = self._clock() + seconds
        while self._running and self._wake is not None and (left := deadline - self._clock()) > 0:
            await self._wake.wait(left)
        return 0.0

    def _idle_seconds(self, *, shared: bool) -> float:
        """How long to wait after an empty look: longer the longer nothing comes."""
        longest = max(LEAST_POLL_S, self.settings.poll_interval_seconds)
        if self._empty_looks <= 2:  # noqa: PLR2004  # two quick looks, then slower ones
            seconds = 0.1
        elif self._empty_looks <= 10:  # noqa: PLR2004
            seconds = 1.0
        else:
            seconds = longest
        due = self._setbacks.next_due()
        limits = [seconds, longest, SHARED_POLL_S if shared else None, due]
        return max(0.001, min(limit for limit in limits if limit is not None))
