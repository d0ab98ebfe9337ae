"""Takes dead-lettered events back to where they came from, with their own bytes and headers.

For people and for the command line, once the cause is mended. Progress is kept
in a consumer group of its own, so that a second run goes on where the first
ended. Nothing is taken out of the dead-letter topic: Kafka's retention does that.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.consumer.dead_letters import DeadLetter, dead_letter_of, header_texts
from huleedu_service_libs.kafka.consumer.letters import PREFIX, own_headers
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import BatchPublisher, OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import AIOKafkaConsumer
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor

__all__ = ["RedriveReport", "redrive"]

_LIMIT_S = 30.0
_POLL_MS = 500
_BATCH = 200

logger = create_service_logger("huleedu_service_libs.consumer")


@dataclass(slots=True, kw_only=True)
class RedriveReport:
    """What a redrive came to.

    Attributes:
        redriven: Events sent back, or that would be.
        passed_over: Events that were not chosen.
        unusable: Records that do not say where they came from, or had no value: they stay.
        by_origin: Events sent back, by topic.
        dry_run: Whether nothing was sent.
        finished: Whether the end of the topic was reached.
        error: Why it ended early.
    """

    dry_run: bool
    redriven: int = 0
    passed_over: int = 0
    unusable: int = 0
    by_origin: dict[str, int] = field(default_factory=dict)
    finished: bool = False
    error: str | None = None


async def redrive(
    dead_letter_topic: str,
    *,
    bootstrap_servers: str,
    publisher: BatchPublisher,
    choose: Callable[[DeadLetter], bool] = lambda _: True,
    dry_run: bool = False,
    most: int | None = None,
    per_second: float | None = None,
    group_id: str | None = None,
    client_options: Mapping[str, Any] | None = None,
    clock: _clock.Clock = _clock.monotonic,
    sleep: _clock.Sleep = _clock.sleep,
) -> RedriveReport:
    """Send dead-lettered events back to their first topics, up to what the topic holds at the start.

    Events keep key, value, headers and identity, so consumers that have processed them recognise them, and lose
    the headers about failures. They go behind what was published meanwhile: the order against later
    events of the same key is not restored.

    Args:
        dead_letter_topic: Where to read.
        bootstrap_servers: Where Kafka is.
        publisher: Sends; started.
        choose: Which events go back; the others are passed over for good, in this group.
        dry_run: Send nothing, and look at everything again the next time.
        most: Events to send at most.
        per_second: Events a second at most.
        group_id: Keeps the progress; ``{dead_letter_topic}.redrive`` by default.
        client_options: Further arguments of `aiokafka.AIOKafkaConsumer`, for TLS and SASL.
        clock: Monotonic seconds.
        sleep: Waits.

    Returns:
        What was done; ``error`` says why it ended early. Everything counted as redriven was acknowledged.

    Raises:
        aiokafka.errors.KafkaError: The topic cannot be read.
        TimeoutError: No broker answered in time.
    """
    report = RedriveReport(dry_run=dry_run)
    consumer = AIOKafkaConsumer(
        dead_letter_topic,
        bootstrap_servers=bootstrap_servers,
        group_id=group_id or f"{dead_letter_topic}.redrive",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        partition_assignment_strategy=(RangePartitionAssignor,),
        **(client_options or {}),
    )
    try:
        async with asyncio.timeout(_LIMIT_S):
            await consumer.start()
        pace = _Pace(per_second, clock, sleep)
        await _Redrive(consumer, publisher, choose, report, pace, most).run()
    finally:
        async with asyncio.timeout(_LIMIT_S):
            await consumer.stop()
    logger.info(
        "dead_letters_redriven",
        topic=dead_letter_topic,
        dry_run=dry_run,
        redriven=report.redriven,
        passed_over=report.passed_over,
        unusable=report.unusable,
        finished=report.finished,
        error=report.error,
    )
    return report


class _Pace:
    """Waits so that no more than so many go in a second."""

    def __init__(self, per_second: float | None, clock: _clock.Clock, sleep: _clock.Sleep) -> None:
        self._interval = 1.0 / per_second if per_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = clock()

    async def wait(self) -> None:
        """Until the next may go."""
        if not self._interval:
            return
        late = self._next - self._clock()
        if late > 0:
            await self._sleep(late)
        self._next = max(self._next, self._clock() - 1.0) + self._interval


class _Redrive:
    """One run over the topic."""

    def __init__(
        self,
        consumer: Any,
        publisher: BatchPublisher,
        choose: Callable[[DeadLetter], bool],
        report: RedriveReport,
        pace: _Pace,
        most: int | None,
    ) -> None:
        self._consumer = consumer
        self._publisher = publisher
        self._choose = choose
        self._report = report
        self._pace = pace
        self._most = most

    async def run(self) -> None:
        partitions = self._consumer.assignment()
        ends = await self._consumer.end_offsets(partitions)
        while not await self._at_end(ends):
            batch = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH)
            for partition, records in batch.items():
                for record in records:
                    if record.offset < ends.get(partition, 0) and not await self._take(record):
                        return
                if not self._report.dry_run:
                    await self._consumer.commit({partition: records[-1].offset + 1})
        self._report.finished = True

    async def _at_end(self, ends: Mapping[Any, int]) -> bool:
        for partition, end in ends.items():
            if await self._consumer.position(partition) < end:
                return False
        return True

    async def _take(self, record: Any) -> bool:
        """Send one event back if it is chosen; False to end here."""
        told = header_texts(record)
        origin = told.get(f"{PREFIX}topic")
        if not origin or f"{PREFIX}null_value" in told:
            self._report.unusable += 1
            return True
        if not self._choose(dead_letter_of(record)):
            self._report.passed_over += 1
            return True
        if self._most is not None and self._report.redriven >= self._most:
            return await self._stop_before(record, None)
        if not self._report.dry_run:
            await self._pace.wait()  # no limit: its own pace
            message = OutgoingMessage(
                topic=origin, value=record.value, key=record.key, headers=own_headers(record.headers)
            )
            (outcome,) = await self._publisher.publish_batch([message])
            if outcome.error is not None:
                return await self._stop_before(record, f"{type(outcome.error).__name__}: {outcome.error}")
        self._report.redriven += 1
        self._report.by_origin[origin] = self._report.by_origin.get(origin, 0) + 1
        return True

    async def _stop_before(self, record: Any, error: str | None) -> bool:
        """Keep the progress, so that the next run begins with this record."""
        self._report.error = error
        if not self._report.dry_run:
            partition = next(
                tp for tp in self._consumer.assignment() if (tp.topic, tp.partition) == (record.topic, record.partition)
            )
            await self._consumer.commit({partition: record.offset})
        return False
