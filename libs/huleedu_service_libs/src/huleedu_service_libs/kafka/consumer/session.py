"""One membership in the group: polls, hands records to lanes, runs them, commits, and gives partitions back in order.

`EventConsumer` makes one, and another when the driver is broken for good. Knows
the driver's consumer by its methods alone.
"""

import asyncio
from collections.abc import Collection, Hashable
from typing import Any, cast

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.kafka.consumer.assigned import AssignmentLook
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.driver import Listener, not_cut_off
from huleedu_service_libs.kafka.consumer.failures import coordinates
from huleedu_service_libs.kafka.consumer.handling import Handling
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.partitions import Intake, PartitionState
from huleedu_service_libs.kafka.consumer.places import Places
from huleedu_service_libs.kafka.consumer.running import Running
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus
from huleedu_service_libs.kafka.consumer.telling import names, status_of, stuck_jobs, stuck_partition
from huleedu_service_libs.kafka.consumer.troubles import ConsumerTroubles
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Session"]

_POLL_MS = 500
_POLL_MS_WHEN_PARTLY_FULL = 20  # a partition that gets room in the meantime waits as long
_CLOSE_LIMIT_S = 10.0
_CANCEL_GRACE_S = 5.0
_BROKEN_AFTER = 5  # failed polls in a row
_FIRST_BACKOFF_S = 0.2

logger = create_service_logger("huleedu_service_libs.consumer")


class Session:
    """See the module.

    Args:
        config: Of the consumer.
        handling: Takes the records.
        metrics: Of the consumer.
        drain_s: Seconds that running handlers get before they are cancelled.
        clock: Monotonic seconds.
        sleep: Waits.

    Attributes:
        consumer: The driver's; set before `run`.
        listener: To be told of rebalances.
        was_healthy: Whether it ever polled with success.
        closed: Whether everything is given back.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        handling: Handling,
        metrics: ConsumerMetrics,
        *,
        drain_s: float,
        clock: _clock.Clock,
        sleep: _clock.Sleep,
    ) -> None:
        self.consumer: Any = None
        self.listener = Listener(self._revoked, self._assigned)
        self.was_healthy = False
        self.closed = False
        self._config = config
        self._metrics = metrics
        self._drain_s = drain_s
        self._clock = clock
        self._sleep = sleep
        self._running = Running(config, handling, metrics, sleep=sleep)
        self._intake = Intake(config)
        self._look = AssignmentLook(config, metrics)
        self._states: dict[Any, PartitionState] = {}
        self._rebalancing_since: float | None = None
        self._closing = False
        self._failed_polls = 0
        self._last_poll: float | None = None
        self._troubles = ConsumerTroubles(config.group_id, metrics, clock=clock)
        self._places = Places(
            config,
            consumer=lambda: self.consumer,
            states=self._states,
            keeps_all=lambda: self._rebalancing_since is None and not self._closing,
            troubles=self._troubles,
            clock=clock,
        )

    # --- reading

    async def run(self) -> None:
        """Poll and commit until cancelled, or until the driver is beyond help."""
        committer = begin(self._commit_regularly(), name=f"consumer-commits:{self._config.group_id}")
        try:
            while self._failed_polls < _BROKEN_AFTER:
                await self._poll_once()
        finally:
            await end(committer, limit_s=_CANCEL_GRACE_S)

    async def _poll_once(self) -> None:
        try:
            await self._take_turn()
        except Exception as error:  # noqa: BLE001  # of the driver: counted, logged, and tried again
            self._failed_polls += 1
            self._troubles.failed("poll", error)
            await self._sleep(_FIRST_BACKOFF_S * 2.0**self._failed_polls)
        else:
            self._failed_polls, self.was_healthy = 0, True
            self._troubles.worked("poll")

    async def _take_turn(self) -> None:
        plan = self._intake.plan(self.consumer.assignment(), self._states, self._clock())
        if plan.pause:
            self.consumer.pause(*plan.pause)
            logger.warning("consumer_paused", group=self._config.group_id, partitions=names(plan.pause))
        if plan.resume:
            self.consumer.resume(*plan.resume)
            logger.info("consumer_resumed", group=self._config.group_id, partitions=names(plan.resume))
        if not plan.poll:
            await self._wait_for_room()
            return
        timeout_ms = _POLL_MS if plan.complete else _POLL_MS_WHEN_PARTLY_FULL
        batch = await not_cut_off(self.consumer.getmany(*plan.read, timeout_ms=timeout_ms, max_records=plan.most))
        self._last_poll = self._clock()
        self._take(batch)

    async def _wait_for_room(self) -> None:
        self._running.room.clear()
        try:
            async with asyncio.timeout(self._config.pause_after_s):
                await self._running.room.wait()
        except TimeoutError:
            return  # the next plan pauses

    def _take(self, batch: dict[Any, list[Any]]) -> None:
        if self._closing:
            return
        now = self._clock()
        for partition, records in batch.items():
            state = self._states.get(partition)
            if state is None:
                state = self._states[partition] = PartitionState(partition=partition)
                self._places.began(partition, records[0].offset)
            for record in records:
                if record.offset <= state.newest:  # the log was cut back: everything of it starts anew
                    state = self._restart(partition, record)
                self._running.add(self._key_of(record), state.take(record, now))
        if batch:
            self._running.pump()

    def _key_of(self, record: Any) -> Hashable:
        keyless = record.key is None and self._config.unordered_keyless
        return cast("Hashable", record.offset if keyless else record.key)

    def _restart(self, partition: Any, record: Any) -> PartitionState:
        self._metrics.swallowed("offset_went_back")
        logger.error("consumer_offset_went_back", group=self._config.group_id, **coordinates(record))
        self._forget(partition)
        state = self._states[partition] = PartitionState(partition=partition)
        return state

    # --- committing

    async def _commit_regularly(self) -> None:
        while True:
            await self._sleep(self._config.commit_interval_s)
            await self._places.commit()
            try:
                self._measure()
            except Exception as error:  # noqa: BLE001  # commits must go on
                self._troubles.failed("measure", error)
            else:
                self._troubles.worked("measure")

    async def keep_place(self) -> None:
        """Commit where a new group begins that wants only what is to come."""
        await self._places.keep()

    # --- rebalance and stop

    async def _revoked(self) -> None:
        """All partitions are about to go, perhaps in the middle of `close`: nobody else gets them while handlers run."""
        self._rebalancing_since = self._clock()
        if self._states:
            logger.info("consumer_partitions_revoked", group=self._config.group_id, partitions=len(self._states))
        await self._give_back()

    async def _give_back(self) -> None:
        """Finish what runs, commit, forget the rest."""
        await self._running.drain(self._states.values(), self._drain_s)
        await self._places.commit()
        for partition in list(self._states):
            self._forget(partition)
        self._places.forget()

    def _assigned(self, partitions: Collection[Any]) -> None:
        self._rebalancing_since = None
        logger.info("consumer_partitions_assigned", group=self._config.group_id, partitions=names(partitions))
        if not self._closing:
            self._look.begin(self.consumer, partitions)

    async def close(self) -> None:
        """Finish what runs, commit, leave the group; all of it within limits of time."""
        self._closing = self._running.closing = True
        self._look.end()
        await self._give_back()
        try:
            async with asyncio.timeout(_CLOSE_LIMIT_S):
                await self.consumer.stop()
        except Exception as error:  # noqa: BLE001  # the broker finds out by itself that the member is gone
            self._troubles.failed("close", error)
        self.closed = True
        self._metrics.levels(in_flight=self._running.in_flight, buffered=0, paused=0, stuck=0)
        self._metrics.lags({})

    def _forget(self, partition: Any) -> None:
        state = self._states.pop(partition)
        state.active = False
        self._running.drop(partition)

    # --- telling

    def status(self, *, running: bool) -> ConsumerStatus:
        """How it is doing."""
        now, committed_at = self._clock(), self._places.committed_at
        return status_of(
            self._states,
            self._view(),
            topics=self._config.topics,
            now=now,
            starts=self._places.starts,
            stuck_after_s=self._config.stuck_after_s,
            rebalancing_s=None if self._rebalancing_since is None else now - self._rebalancing_since,
            rebalance_limit_s=self._drain_s + self._config.session_timeout_s + _CANCEL_GRACE_S,
            running=running,
            last_poll_s=None if self._last_poll is None else now - self._last_poll,
            last_commit_s=None if committed_at is None else now - committed_at,
            in_flight=self._running.in_flight,
            last_error=self._troubles.summary,
        )

    def _view(self) -> dict[Any, int | None]:
        """The assigned partitions, each with the end that the brokers have told."""
        return {tp: self.consumer.highwater(tp) for tp in self.consumer.assignment()}

    def _measure(self) -> None:
        told = self.status(running=True)
        for job in stuck_jobs(self._states.values(), self._clock(), self._config.stuck_after_s):
            if not job.told:
                job.told = True
                about = str(stuck_partition(job, self._clock()))
                logger.warning(
                    "consumer_partition_stuck", group=self._config.group_id, about=about, **coordinates(job.record)
                )
        self._metrics.levels(
            in_flight=told.in_flight, buffered=told.buffered, paused=len(told.paused), stuck=len(told.stuck)
        )
        self._metrics.lags(told.lag)
