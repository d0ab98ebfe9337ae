"""The messages of one partition that callers publish one by one: they travel together.

``coalescing`` has one lane for each partition. A message goes to the driver at once when nothing is
under way; what is published until the driver leaves goes along, and what comes later waits for the
next batch. One batch at a time, so that a failure can be taken apart (``delivery``) before anything
overtakes it. Knows neither envelopes nor topics' partitions.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.delivery import Delivery, FailedAttempt, InDoubt
from huleedu_service_libs.kafka.driver_batches import OpenBatch, failure_of, takes_open_batches
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka.singles import Single, take_expired
from huleedu_service_libs.outages import is_refused_by_kafka

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition

__all__ = ["PublishLane", "Spawn"]

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine as a task that is kept until its end."""


class PublishLane:
    """What is published to one partition.

    Args:
        lane: The partition.
        host: Where the producer comes from.
        delivery: Sends what needs more than one attempt; keeps the partition's turn.
        spawn: For what takes time.
    """

    def __init__(self, lane: TopicPartition, host: ProducerHost, delivery: Delivery, spawn: Spawn) -> None:
        self._lane = lane
        self._host = host
        self._delivery = delivery
        self._spawn = spawn
        self._turn = delivery.turns[lane]
        self._is_busy = False  # has the turn, or stands in line for it
        self._batch: OpenBatch | None = None
        # In the batch, or being taken apart. bound: as all of them, what `coalescing` has let in, max_buffered_bytes
        self._travelling: deque[Single] = deque()
        self._waiting: deque[Single] = deque()  # bound: as above
        # In a batch in doubt, and there is time left. bound: as above
        self._doubtful: deque[Single] = deque()

    def add(self, single: Single) -> None:
        """Send ``single`` as soon as its turn comes."""
        batch = self._batch
        if batch is not None and not self._waiting and batch.append(single.message):
            self._travelling.append(single)
            return
        self._waiting.append(single)
        self._go_on()

    def next_deadline(self) -> float | None:
        """When the first caller gives up; each list is in the order of deadlines."""
        heads = [singles[0].deadline for singles in (self._travelling, self._waiting, self._doubtful) if singles]
        return min(heads, default=None)

    def expire(self, now: float, timeout_s: float) -> None:
        """Answer the callers whose time is over; their batch is in doubt from then on."""
        for single in take_expired(self._waiting, now):
            single.expire(timeout_s, sent=False)
        for single in take_expired(self._doubtful, now):
            single.expire(timeout_s, sent=True)
        late = [single for single in self._travelling if single.deadline <= now and not single.is_over]
        for single in late:
            single.expire(timeout_s, sent=self._may_arrive(single))
        if late and self._batch is not None:
            self._leave_in_doubt(self._batch)

    def give_up(self, error: Exception) -> None:
        """Fail what the driver does not have yet."""
        while self._waiting:
            self._waiting.popleft().give_up(error)

    def _may_arrive(self, single: Single) -> bool:
        """Not while a batch before it is in doubt: that is waited for first."""
        doubt = self._delivery.in_doubt.get(self._lane)
        return self._batch is not None or doubt is None or single.message in doubt.messages

    def _leave_in_doubt(self, batch: OpenBatch) -> None:
        messages = [single.message for single in self._travelling]
        self._delivery.in_doubt[self._lane] = InDoubt(batch.producer, batch.future, messages)
        self._doubtful.extend(single for single in self._travelling if not single.is_over)
        self._batch, self._travelling = None, deque()
        self._hand_over()

    def _go_on(self) -> None:
        if self._is_busy or not self._waiting:
            return
        self._is_busy = True
        if self._turn.try_take():
            self._fill()
        else:
            self._turn.queue().add_done_callback(lambda _: self._fill())

    def _hand_over(self) -> None:
        """The turn is over; another sender of the partition comes first."""
        if self._waiting and not self._turn.is_wanted:
            self._fill()
            return
        self._is_busy = False
        self._turn.give_back()
        self._go_on()

    def _fill(self) -> None:
        """Open the next batch; the turn is ours."""
        producer: Any = None
        try:
            producer = self._host.live
            if takes_open_batches(producer) and self._lane not in self._delivery.in_doubt:
                self._open(producer)
            else:
                self._take_time(self._take_waiting())
        except Exception as error:  # noqa: BLE001  # the callers get it
            self._take_time(self._take_waiting(), FailedAttempt(producer, error))

    def _take_waiting(self) -> deque[Single]:
        taken = deque(single for single in self._waiting if not single.is_over)
        self._waiting.clear()
        return taken

    def _open(self, producer: Any) -> None:
        waiting = self._waiting
        while waiting and waiting[0].is_over:  # cancelled before it was sent
            waiting.popleft()
        if not waiting:
            self._hand_over()
            return
        batch = OpenBatch(producer, self._lane, waiting[0].message)
        self._delivery.note_refusal(self._lane, given_back=False)
        travelling = deque([waiting.popleft()])
        while waiting and (waiting[0].is_over or batch.append(waiting[0].message)):
            single = waiting.popleft()
            if not single.is_over:
                travelling.append(single)
        self._batch, self._travelling = batch, travelling
        batch.future.add_done_callback(partial(self._answered, batch, travelling))

    def _answered(self, batch: OpenBatch, travelling: deque[Single], future: asyncio.Future[Any]) -> None:
        error = failure_of(future)
        if error is None:
            for single in travelling:
                single.acknowledge()
        if self._batch is not batch:  # in doubt since; whoever has the next turn sees to the producer
            for single in travelling:
                single.give_up(error) if error else None
            return
        self._batch = None
        if error is None:
            self._travelling = deque()
            self._hand_over()
            return
        if is_refused_by_kafka(error) and batch.give_back_numbers():
            self._delivery.note_refusal(self._lane, given_back=True)
        self._take_time(travelling, FailedAttempt(batch.producer, error))

    def _take_time(self, singles: deque[Single], failed: FailedAttempt | None = None) -> None:
        self._travelling = singles
        self._spawn(self._deliver(singles, failed))

    async def _deliver(self, singles: deque[Single], failed: FailedAttempt | None) -> None:
        wanted = [single for single in singles if not single.is_over]
        try:
            await self._delivery.send(self._lane, list(wanted), independent=True, failed=failed)
        finally:
            for single in wanted:
                single.finish()
            self._travelling = deque()
            self._hand_over()
