"""Runs the records that may run: each in a task of its own, or many together through a step that can.

`Session` adds records and drains; what becomes of a record is `Handling`'s business. Knows no driver.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._tasks import attended, begin
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.failures import coordinates
from huleedu_service_libs.kafka.consumer.handling import Handling
from huleedu_service_libs.kafka.consumer.lanes import KeyLanes, Lane
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.partitions import Job, PartitionState
from huleedu_service_libs.kafka.consumer.ports import ManyStep
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Running"]

_CANCEL_GRACE_S = 5.0
_BUG_REST_S = 5.0

logger = create_service_logger("huleedu_service_libs.consumer")

_Ride = tuple[Lane[Job], Job]


@dataclass(slots=True, eq=False)
class _Returned:
    """Records whose handlers have returned in one turn of the loop."""

    task: asyncio.Task[None] = field(init=False)
    rides: list[_Ride] = field(default_factory=list)
    passages: list[Any] = field(default_factory=list)


class Running:
    """See the module.

    Args:
        config: Of the consumer.
        handling: Takes the records.
        metrics: Of the consumer.
        sleep: Waits.

    Attributes:
        room: Set whenever a record has ended.
        closing: Whether nothing is tried again.
    """

    def __init__(
        self, config: ConsumerConfig, handling: Handling, metrics: ConsumerMetrics, *, sleep: _clock.Sleep
    ) -> None:
        self.room = asyncio.Event()
        self.closing = False
        self._group = config.group_id
        self._handling = handling
        self._metrics = metrics
        self._sleep = sleep
        self._lanes: KeyLanes[Job] = KeyLanes(config.concurrency)
        self._wakers: set[asyncio.Task[None]] = set()
        self._abandoning: set[asyncio.Task[None]] = set()  # a drain waits for them
        self._returned: dict[ManyStep, _Returned] = {}

    @property
    def in_flight(self) -> int:
        """Records that run."""
        return self._lanes.running

    def add(self, key: Hashable, job: Job) -> None:
        """A record has come; `pump` starts it when its turn has come."""
        self._lanes.add(job.state.partition, key, job)

    def drop(self, partition: Any) -> None:
        """Forget what waits of a partition."""
        self._lanes.drop(partition)

    def pump(self) -> None:
        """Start whatever may run."""
        together: dict[ManyStep, deque[_Ride]] = {}  # bound: what the lanes give out, concurrency
        while (ride := self._lanes.take()) is not None:
            step = self._handling.step_for_many(ride[1])
            if step is None:
                self._start(ride, self._handling.run(ride[1]))
            else:
                together.setdefault(step, deque()).append(ride)
        for step, rides in together.items():
            if len(rides) == 1:
                self._start(rides[0], self._handling.run(rides[0][1]))
            else:
                self._track(self._admit(step, rides), rides).add_done_callback(partial(self._admitted, rides))

    # --- one

    def _start(self, ride: _Ride, run: Coroutine[Any, Any, float | None]) -> None:
        task = attended(run, name="consumer-record")
        ride[1].state.tasks.add(task)
        task.add_done_callback(partial(self._ended, ride))

    def _ended(self, ride: _Ride, task: asyncio.Task[float | None]) -> None:
        self._end(ride, task)
        self._go_on()

    def _end(self, ride: _Ride, task: asyncio.Task[Any]) -> None:
        ride[1].state.tasks.discard(task)
        if task.cancelled():
            self._lanes.finish(ride[0])  # by a drain: the record stays unfinished, and comes again
        elif (fault := task.exception()) is not None:  # of ours: the record is kept and tried again
            self._note_fault(ride[1], fault)
            self._settle(ride, _BUG_REST_S)
        else:
            self._settle(ride, task.result())

    def _go_on(self) -> None:
        self.pump()
        self.room.set()

    def _settle(self, ride: _Ride, rest_s: float | None) -> None:
        lane, job = ride
        if rest_s is None:
            if job.state.active:
                job.state.finish(job)
            self._lanes.finish(lane)
        elif not job.state.active or self.closing:
            self._lanes.finish(lane)
        else:
            self._lanes.rest(lane)
            waker = begin(self._wake_after(lane, rest_s), name="consumer-retry")
            self._wakers.add(waker)
            waker.add_done_callback(self._wakers.discard)

    async def _wake_after(self, lane: Lane[Job], seconds: float) -> None:
        await self._sleep(seconds)
        self._lanes.wake(lane)
        self.pump()

    def _note_fault(self, job: Job, fault: BaseException) -> None:
        job.last_error = error_text(fault)
        self._metrics.swallowed("handling")
        logger.error("consumer_fault", group=self._group, exc_info=fault, **coordinates(job.record))

    # --- many

    def _track(self, work: Coroutine[Any, Any, Any], rides: Iterable[_Ride]) -> asyncio.Task[Any]:
        """A task that a drain of any of the partitions waits for."""
        task = attended(work, name="consumer-records")
        states = {id(job.state): job.state for _, job in rides}.values()
        for state in states:
            state.tasks.add(task)
        task.add_done_callback(partial(_untrack, states))
        return task

    async def _admit(self, step: ManyStep, rides: deque[_Ride]) -> None:
        """Begin the records together, then run each by itself. Who has begun is taken off ``rides``."""
        passages = await step.admit([job.delivery for _, job in rides if job.delivery is not None])
        for passage in passages:
            ride = rides.popleft()
            task = attended(self._handling.run_admitted(ride[1], step, passage), name="consumer-record")
            ride[1].state.tasks.add(task)
            task.add_done_callback(partial(self._came_back, step, ride, passage))

    def _admitted(self, rides: deque[_Ride], task: asyncio.Task[None]) -> None:
        for ride in rides:  # those that have not begun
            self._end(ride, task)
        if rides:
            self._go_on()

    def _came_back(self, step: ManyStep, ride: _Ride, passage: Any, task: asyncio.Task[float | None]) -> None:
        job = ride[1]
        if not job.returned:
            if task.cancelled() and not job.began:
                self._abandon(step, passage)
            self._ended(ride, task)
            return
        job.state.tasks.discard(task)
        returned = self._returned.get(step)
        if returned is None:  # the others of this turn of the loop come along
            returned = self._returned[step] = _Returned()
            returned.task = attended(self._conclude(step), name="consumer-conclusion")
            returned.task.add_done_callback(partial(self._concluded, step, returned))
        returned.rides.append(ride)
        returned.passages.append(passage)
        job.state.tasks.add(returned.task)

    async def _conclude(self, step: ManyStep) -> None:
        await step.conclude(self._returned.pop(step).passages)

    def _concluded(self, step: ManyStep, returned: _Returned, task: asyncio.Task[None]) -> None:
        if self._returned.get(step) is returned:  # cancelled before it began
            del self._returned[step]
        for ride in returned.rides:
            self._end(ride, task)
            if not task.cancelled() and task.exception() is None:
                self._handling.concluded(ride[1])
        self._go_on()

    def _abandon(self, step: ManyStep, passage: Any) -> None:
        task = begin(step.abandon(passage), name="consumer-abandon")
        self._abandoning.add(task)
        task.add_done_callback(self._abandoning.discard)

    # --- the end

    async def drain(self, states: Iterable[PartitionState], limit_s: float) -> None:
        """Let running handlers end; those that don't in time are cancelled. Whatever waits is dropped."""
        states = list(states)
        for state in states:
            self._lanes.drop(state.partition)
        for waker in list(self._wakers):
            waker.cancel()
        running = {task for state in states for task in state.tasks}
        deadline = asyncio.get_running_loop().time() + limit_s
        while running:
            left_s = deadline - asyncio.get_running_loop().time()
            _, late = await asyncio.wait(running, timeout=max(0.0, left_s))
            if late:
                await self._cancel(late, limit_s)
                return
            # What was admitted together has begun by now, and what has returned is being concluded.
            running = {task for state in states for task in state.tasks if not task.done()}

    async def _cancel(self, late: set[asyncio.Task[Any]], limit_s: float) -> None:
        logger.warning("consumer_drain_deadline", group=self._group, cancelled=len(late), drain_s=limit_s)
        for task in late:
            task.cancel()
        _, deaf = await asyncio.wait([*late, *self._abandoning], timeout=_CANCEL_GRACE_S)
        if deaf:
            self._metrics.swallowed("deaf_handler")
            logger.error("consumer_handlers_ignore_cancellation", group=self._group, count=len(deaf))


def _untrack(states: Iterable[PartitionState], task: asyncio.Task[Any]) -> None:
    for state in states:
        state.tasks.discard(task)
