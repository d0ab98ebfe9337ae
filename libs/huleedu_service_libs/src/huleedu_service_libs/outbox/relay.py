"""The relay: takes events from the outbox to Kafka, in order per key, at least once.

A service starts one in its lifecycle (any number of processes share the work,
see `lanes`). One loop: a SELECT for a batch, one publish, an UPDATE, and no
transaction open meanwhile. Poison (an event that can never be published) is
counted, held back with its key, and parked in the end; an outage counts for no
event. Knows storage and Kafka only through their ports.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from huleedu_service_libs import _clock
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.adapter import FencedAdapter, RepositoryBatchStore
from huleedu_service_libs.outbox.batch import Batch, judge
from huleedu_service_libs.outbox.delivery import sender_for
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import (
    EventTypeMapperProtocol,
    FailedEvent,
    OutboxBatchStore,
    OutboxEvent,
    OutboxRepositoryProtocol,
)
from huleedu_service_libs.outbox.schedule import Backoff, Held
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.wakeup import WakeListener, wake_key_of
from huleedu_service_libs.outbox.wire import key_of
from huleedu_service_libs.protocols import (
    AtomicRedisClientProtocol,
    KafkaPublisherProtocol,
    concrete_capability,
)

__all__ = ["EventRelayWorker", "OutboxSettings"]

STOP_GRACE_SECONDS = 10.0  # for the batch in flight
CANCEL_GRACE_SECONDS = 5.0  # for a cancelled one
DEPTH_INTERVAL_SECONDS = 10.0  # between two counts of what waits
MOST_HELD_KEYS = 1000  # beyond this many failing keys the relay waits instead of searching past them
LEAVE_AFTER_BATCHES = 3  # fruitless ones, after which the lanes are left to other relays
SHARED_POLL_SECONDS = 0.25  # a wake-up may have reached another relay

_SINGLE_ROW_METHODS = ("mark_event_published", "mark_event_failed", "increment_retry_count")

logger = create_service_logger("huleedu.outbox.relay")


class EventRelayWorker:
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
        self._held = Held(clock, jitter)
        self._held_topics = Held(clock, jitter)
        self._fruitless = 0  # batches in a row of which nothing arrived for reasons outside of them
        self._storage_trouble = Backoff(jitter)
        self._empty_looks = 0
        self._next_depth = 0.0
        self._running = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._wake: WakeListener | None = None

    @property
    def is_running(self) -> bool:
        """Whether the loop is alive; for health checks."""
        return self._task is not None and not self._task.done()

    async def start(self) -> None:
        """Schedule the relay and return; does nothing but warn when it runs already.

        Raises:
            ValueError: Strict order is asked of a repository that cannot keep it.
        """
        if self.is_running:
            logger.warning("outbox_relay_already_running", service=self.service_name)
            return
        if self.settings.strict_order and concrete_capability(self.outbox_repository, "batch_store") is None:
            raise ValueError(
                f"OutboxSettings.strict_order: {type(self.outbox_repository).__name__} cannot tell running writers;"
                " use PostgreSQLOutboxRepository, or switch strict_order off"
            )
        if self._wake is not None:  # of a loop that has died
            await self._wake.stop()
        self._running, self._stopping = True, False
        listens = self.settings.enable_wake_notifications
        self._wake = WakeListener(self.redis_client if listens else None, self.wake_key, self.metrics)
        self._wake.start()
        self._task = asyncio.create_task(self._run(self._wake), name=f"outbox-relay:{self.service_name}")
        self._task.add_done_callback(self._note_end)
        logger.info("outbox_relay_started", service=self.service_name)

    async def stop(self) -> None:
        """Finish the batch in flight, within 10 s, and end, within 15 s; does nothing when not running.

        A batch that does not finish in time is sent again by the next relay; no attempt is counted.
        """
        if not self._running:
            return
        self._running, self._stopping = False, True
        task, self._task = self._task, None
        wake, self._wake = self._wake, None
        if task is not None and wake is not None:
            wake.request_stop()  # before anything is awaited, so that it holds also if this call is cancelled
            await asyncio.gather(wake.stop(), self._finish(task))
        logger.info("outbox_relay_stopped", service=self.service_name, finished=task is None or task.done())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _finish(self, task: asyncio.Task[None]) -> None:
        _, pending = await asyncio.wait([task], timeout=STOP_GRACE_SECONDS)
        if pending:
            logger.warning("outbox_relay_stop_cancels_batch", service=self.service_name, after=STOP_GRACE_SECONDS)
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_GRACE_SECONDS)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        """Say why the loop has ended if nobody asked it to; ``start()`` begins anew."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._count_error("relay_died")
            logger.error("outbox_relay_died", service=self.service_name, error=repr(error), exc_info=error)

    async def _run(self, wake: WakeListener) -> None:
        store = _store_of(self.outbox_repository, self.settings)
        try:
            while self._running:
                pause = await self._guarded_cycle(store, wake)
                if pause > 0 and self._running:
                    await wake.wait(pause)
                else:
                    await _clock.sleep(0)  # doubles may never suspend; others want to run, too
        finally:
            await store.close()

    async def _guarded_cycle(self, store: OutboxBatchStore, wake: WakeListener) -> float:
        """One cycle; seconds until the next. Trouble, as a rule with the storage, is survived."""
        try:
            pause = await self._cycle(store, wake)
        except Exception as error:  # noqa: BLE001  # every kind of trouble ends in a back-off, counted and logged
            delay = self._storage_trouble.failed(self.settings.error_retry_interval_seconds)
            self._count_error("storage")
            logger.error(  # noqa: TRY400  # the text says it; a stack at every retry would bury it
                "outbox_storage_error",
                service=self.service_name,
                error=str(error),
                error_type=type(error).__name__,
                retry_in_seconds=round(delay, 3),
            )
            return await self._back_off(delay)
        self._storage_trouble.succeeded()
        return pause

    async def _cycle(self, store: OutboxBatchStore, wake: WakeListener) -> float:
        blocked = self._blocked_seconds()
        if blocked > 0:
            return await self._back_off(blocked)
        held, held_topics = self._held.held(), self._held_topics.held()
        wake.clear()
        started = self._clock()
        events = await store.fetch(
            limit=max(1, self.settings.batch_size),
            max_retries=self._max_retries,
            held_keys=held,
            held_topics=held_topics,
        )
        await self._report_depth(store, len(events))
        if not events:
            self._empty_looks += 1
            return self._idle_seconds(shared=store.shared)
        self._empty_looks = 0
        batch = judge(events, await self._sender.deliver(events, go_on=lambda: not self._stopping))
        parked = await store.settle(
            published=batch.published,
            failed=[*batch.failed, *self._noted_outage(batch)],
            max_retries=self._max_retries,
        )
        self._note(batch, parked, self._clock() - started)
        if self._fruitless >= LEAVE_AFTER_BATCHES:
            await store.close()  # another relay may reach what this one cannot
        return 0.0

    @property
    def _max_retries(self) -> int:
        return max(1, self.settings.max_retries)

    def _blocked_seconds(self) -> float:
        """How long nothing may be looked for: too many keys fail, or no topic is reached at all."""
        waits = []
        if len(self._held.held()) >= MOST_HELD_KEYS:
            waits.append(self._held.next_due() or 0.0)
        if self._fruitless >= LEAVE_AFTER_BATCHES and self._held_topics.held():
            waits.append(self._held_topics.next_due() or 0.0)
        return max(waits, default=0.0)

    def _noted_outage(self, batch: Batch) -> list[FailedEvent]:
        """The event at which an outage begins, where it is to be given an attempt: its first, and never its last."""
        one = batch.interrupted
        if one is None or not self._sender.notes_outages or self._fruitless:
            return []
        return [one] if one.event.retry_count == 0 and self._max_retries > 1 else []

    async def _back_off(self, seconds: float) -> float:
        """Wait, ended by nothing but ``stop()``: a wake-up does not shorten a back-off."""
        deadline = self._clock() + seconds
        while self._running and self._wake is not None and (left := deadline - self._clock()) > 0:
            await self._wake.wait(left)
        return 0.0

    def _idle_seconds(self, *, shared: bool) -> float:
        """How long to wait after an empty look: longer the longer nothing comes."""
        if self._empty_looks <= 2:  # noqa: PLR2004  # two quick looks, then slower ones
            seconds = 0.1
        elif self._empty_looks <= 10:  # noqa: PLR2004
            seconds = 1.0
        else:
            seconds = self.settings.poll_interval_seconds
        limits = [seconds, self.settings.poll_interval_seconds]
        if shared:
            limits.append(SHARED_POLL_SECONDS)
        limits.extend(due for due in (self._held.next_due(), self._held_topics.next_due()) if due is not None)
        return max(0.001, min(limits))

    async def _report_depth(self, store: OutboxBatchStore, fetched: int) -> None:
        if self.metrics is None or self._clock() < self._next_depth:
            return
        self._next_depth = self._clock() + DEPTH_INTERVAL_SECONDS
        depth = await store.depth(max_retries=self._max_retries)
        self.metrics.set_queue_depth(fetched if depth is None else depth)

    def _note(self, batch: Batch, parked: Sequence[OutboxEvent], duration: float) -> None:
        """Key back-offs, metrics and logs of a batch whose results are stored."""
        longest = self.settings.error_retry_interval_seconds
        for event in batch.published:
            self._held_topics.release(event.topic)
        for event in (*batch.published, *parked):
            self._held.release(key_of(event))
        parked_ids = {event.id for event in parked}
        for one in batch.failed:
            if one.event.id not in parked_ids:
                self._held.hold(key_of(one.event), longest)
            self._log_failure(one, parked=one.event.id in parked_ids)
        for key in batch.waiting_keys:
            self._held.hold(key, longest)
        for topic, error in batch.outages.items():
            self._note_outage(topic, error, self._held_topics.hold(topic, longest))
        self._fruitless = self._fruitless + 1 if batch.outages and not batch.published else 0
        if self.metrics is not None:
            self._measure(self.metrics, batch, parked, duration)

    def _note_outage(self, topic: str, error: Exception, retry_in: float) -> None:
        self._count_error("broker_outage")
        logger.warning(
            "outbox_broker_outage",
            service=self.service_name,
            topic=topic,
            error=str(error),
            error_type=type(error).__name__,
            retry_in_seconds=round(retry_in, 3),
        )

    def _log_failure(self, one: FailedEvent, *, parked: bool) -> None:
        self._count_error("poison")
        event = one.event
        logger.error(
            "outbox_event_parked" if parked else "outbox_event_failed",
            service=self.service_name,
            outbox_id=str(event.id),
            event_type=event.event_type,
            topic=event.topic,
            key=key_of(event),
            attempt=event.retry_count + 1,
            error=one.error,
        )

    def _measure(self, metrics: OutboxMetrics, batch: Batch, parked: Sequence[OutboxEvent], duration: float) -> None:
        metrics.observe_processing_time(duration)
        metrics.set_held_topics(len(self._held_topics.held()))
        now = datetime.now(UTC)
        for event in batch.published:
            metrics.increment_published_events(event.event_type)
            age = _age_seconds(event, now)
            if age is not None:
                metrics.observe_event_age(age)
        for event in parked:
            metrics.increment_failed_events(event.event_type)

    def _count_error(self, error_type: str) -> None:
        if self.metrics is not None:
            self.metrics.increment_errors(error_type)


def _store_of(repository: Any, settings: OutboxSettings) -> OutboxBatchStore:
    """The batch store that a repository offers, or one made of its six methods."""
    if concrete_capability(repository, "batch_store") is None:
        return RepositoryBatchStore(repository)
    limit = settings.strict_order_limit_seconds
    store: OutboxBatchStore = (
        repository.batch_store(strict_order_limit_seconds=limit) if settings.strict_order else repository.batch_store()
    )
    if concrete_capability(repository, "batch_store", beside=_SINGLE_ROW_METHODS) is not None:
        return store
    logger.warning(
        "outbox_repository_methods_overridden",
        repository=type(repository).__name__,
        effect="results are stored row by row, through the overridden methods",
    )
    return FencedAdapter(repository, store)


def _age_seconds(event: OutboxEvent, now: datetime) -> float | None:
    created: object = getattr(event, "created_at", None)  # a row of a test may lack it
    if not isinstance(created, datetime):
        return None
    aware = created if created.tzinfo else created.replace(tzinfo=UTC)  # some tables have no time zone
    return max(0.0, (now - aware).total_seconds())
