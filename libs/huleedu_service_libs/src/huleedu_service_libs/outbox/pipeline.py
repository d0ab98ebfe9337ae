"""The relay's work: look, deliver, store; while one batch is delivered, the one before is stored and the next is read.

The relay calls `Pipeline.step` in its loop. Batches are delivered one after the other,
so that nothing of a key leaves while an earlier event of it is in flight; what the storage
does runs beside that. A batch that was read ahead loses, before it is delivered, every event whose
key or topic has met trouble meanwhile. Knows storage and Kafka only through their ports.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import attended
from huleedu_service_libs.outbox.batch import Batch, judge, without_broken
from huleedu_service_libs.outbox.delivery import Sender
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxBatchStore, OutboxEvent
from huleedu_service_libs.outbox.reporting import Reporter
from huleedu_service_libs.outbox.setbacks import Setbacks
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.protocols import DeliveryOutcome

__all__ = ["Pipeline"]

DEPTH_INTERVAL_S = 10.0  # between two counts of what waits
STALE_S = 10.0  # a batch that was read so long ago is not sent unseen: the lanes may be another relay's by then


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A batch that was read.

    Attributes:
        events: Oldest first.
        at: When the look began.
        full: Whether there may be more.
    """

    events: Sequence[OutboxEvent]
    at: float
    full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Delivered:
    """A batch whose results are not stored yet."""

    batch: Batch
    looked_at: float
    delivered_at: float


class Pipeline:
    """One relay's batches.

    Args:
        store: Where events come from.
        sender: Where they go.
        settings: Read at every step.
        setbacks: What waits.
        reporter: Told of every batch that is stored.
        metrics: Takes the depth; ``None`` counts nothing.
        keep_going: Whether the relay runs; asked between events that are sent one by one, and before looking ahead.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        *,
        store: OutboxBatchStore,
        sender: Sender,
        settings: OutboxSettings,
        setbacks: Setbacks,
        reporter: Reporter,
        metrics: OutboxMetrics | None,
        keep_going: Callable[[], bool],
        clock: _clock.Clock,
    ) -> None:
        self._store = store
        self._sender = sender
        self._settings = settings
        self._setbacks = setbacks
        self._reporter = reporter
        self._metrics = metrics
        self._keep_going = keep_going
        self._clock = clock
        self._ahead: _Look | None = None
        self._delivered: _Delivered | None = None
        self._next_depth = 0.0

    @property
    def has_read_ahead(self) -> bool:
        """Whether the next step has a batch already."""
        return self._ahead is not None

    async def step(self) -> bool:
        """Deliver one batch; ``False`` when there was none.

        Raises:
            Exception: Of the storage. What was not stored will be sent again.
        """
        look, self._ahead = self._ahead, None
        if look is None or self._is_stale(look):
            await self._store_results()
            look = await self._look()
            if look.events and self._is_stale(look):  # frozen meanwhile? A statement shows whether the lanes are ours
                await self._store.depth(max_retries=self._max_retries)
        if not look.events:
            return False
        delivery = attended(self._sender.deliver(look.events, go_on=self._keep_going), name="outbox-delivery")
        try:
            ahead = await self._beside(look)
            outcomes = await delivery
        except Exception:
            self._delivered = None  # sent again by whoever owns it then; what is on its way now must end before
            await asyncio.wait({delivery})  # no limit: the publisher has its own
            raise
        finally:
            delivery.cancel()  # a stop that waits no longer; does nothing to one that has ended
        await self._take_in(look, outcomes, ahead)
        return True

    def _is_stale(self, look: _Look) -> bool:
        return self._clock() - look.at > STALE_S

    async def finish(self) -> None:
        """Store what was delivered; what was only read is left."""
        self._ahead = None
        await self._store_results()

    async def _beside(self, look: _Look) -> _Look | None:
        """What the storage does during a delivery."""
        await self._store_results()
        return await self._look(in_flight=look.events) if look.full and self._keep_going() else None

    async def _take_in(self, look: _Look, outcomes: Sequence[DeliveryOutcome], ahead: _Look | None) -> None:
        batch = judge(look.events, outcomes)
        self._delivered = _Delivered(batch=batch, looked_at=look.at, delivered_at=self._clock())
        events = [] if ahead is None else without_broken(ahead.events, batch)
        if ahead is not None and events:
            self._ahead = _Look(events=events, at=ahead.at, full=ahead.full)
        else:
            await self._store_results()

    async def _look(self, in_flight: Sequence[OutboxEvent] = ()) -> _Look:
        limit = max(1, min(self._settings.batch_size, self._sender.most))
        at = self._clock()
        events = await self._store.fetch(
            limit=limit,
            max_retries=self._max_retries,
            held_keys=self._setbacks.held_keys(),
            held_topics=self._setbacks.held_topics(),
            in_flight=in_flight,
        )
        await self._report_depth(len(events))
        return _Look(events=events, at=at, full=len(events) >= limit)

    async def _store_results(self) -> None:
        done, self._delivered = self._delivered, None
        if done is None:
            return
        batch = done.batch
        parked = await self._store.settle(
            published=batch.published,
            failed=[*batch.failed, *self._noted_outage(batch)],
            max_retries=self._max_retries,
        )
        outages = self._setbacks.note(batch, parked, self._settings.error_retry_interval_seconds)
        self._reporter.held_topics(len(self._setbacks.held_topics()))
        self._reporter.batch(
            batch,
            parked,
            outages,
            seconds=self._clock() - done.looked_at,
            waited=done.delivered_at - done.looked_at,
        )

    @property
    def _max_retries(self) -> int:
        return max(1, self._settings.max_retries)

    def _noted_outage(self, batch: Batch) -> list[FailedEvent]:
        """The event at which an outage begins, where it is to be given an attempt: its first, and never its last."""
        one = batch.interrupted
        if one is None or not self._sender.notes_outages or not self._setbacks.outage_is_new:
            return []
        return [one] if one.event.retry_count == 0 and self._max_retries > 1 else []

    async def _report_depth(self, fetched: int) -> None:
        if self._metrics is None or self._clock() < self._next_depth:
            return
        self._next_depth = self._clock() + DEPTH_INTERVAL_S
        depth = await self._store.depth(max_retries=self._max_retries)
        self._metrics.set_queue_depth(fetched if depth is None else depth)
