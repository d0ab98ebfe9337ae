"""What is looked at when partitions have been assigned, beside a log that others write to."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest
from aiokafka.structs import TopicPartition
from structlog.testing import capture_logs

from huleedu_service_libs.kafka.consumer import ConsumerConfig
from huleedu_service_libs.kafka.consumer.assigned import AssignmentLook
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics

from ..waiting import until


class BusyLog:
    """A driver's consumer of a log that grows, and is read and committed to its end, at every question."""

    def __init__(self) -> None:
        self.end = 5
        self.asked: list[str] = []

    def _passes(self, question: str) -> int:
        self.asked.append(question)
        self.end += 1
        return self.end

    async def beginning_offsets(self, partitions: Collection[Any]) -> dict[Any, int]:
        """Nothing has expired."""
        self._passes("first")
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Collection[Any]) -> dict[Any, int]:
        """The end of the moment."""
        return dict.fromkeys(partitions, self._passes("end"))

    async def committed(self, _partition: Any) -> int:
        """All that there is at the moment."""
        return self._passes("committed")


@pytest.mark.parametrize("partitions", [1, 3])
async def test_what_is_committed_during_the_look_is_not_beyond_the_end(partitions: int) -> None:
    """A log that grows while the look lasts is no log that ends before the committed offset."""
    log = BusyLog()
    look = AssignmentLook(ConsumerConfig(group_id="busy", topics=("t",)), ConsumerMetrics("busy"))
    with capture_logs() as logs:
        look.begin(log, [TopicPartition("t", number) for number in range(partitions)])
        async with asyncio.timeout(10):
            while len(log.asked) < partitions + 2:
                await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not logs


class DistantLog(BusyLog):
    """Answers what is committed only when it has been asked for every partition."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.all_asked = asyncio.Barrier(partitions)

    async def committed(self, partition: Any) -> int:
        """Behind the end of the log."""
        async with self.all_asked:
            return await super().committed(partition) + 1_000


async def test_a_look_at_many_partitions_takes_no_longer_than_at_one() -> None:
    """What is committed is asked for all of them at the same time; each answer is compared with its own partition."""
    partitions = [TopicPartition("t", number) for number in range(200)]
    look = AssignmentLook(ConsumerConfig(group_id="many", topics=("t",)), ConsumerMetrics("many"))
    with capture_logs() as logs:
        look.begin(DistantLog(200), partitions)
        async with asyncio.timeout(10):
            while len(logs) < len(partitions):
                await asyncio.sleep(0)
    assert {line["event"] for line in logs} == {"consumer_place_beyond_end"}
    assert sorted(line["kafka_partition"] for line in logs) == list(range(200))


class UnevenLog(BusyLog):
    """Refuses to say what is committed to the first partition, and never answers for the others."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = 0

    async def committed(self, partition: Any) -> int:
        """See the class."""
        if partition.partition == 0:
            await asyncio.sleep(0)
            raise RuntimeError("no coordinator")
        self.waiting += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.waiting -= 1
        return 0


async def test_a_look_that_fails_leaves_no_question_behind() -> None:
    """Where one partition's offset cannot be had the look is over, and nobody goes on to ask for the others'."""
    log = UnevenLog()
    look = AssignmentLook(ConsumerConfig(group_id="uneven", topics=("t",)), ConsumerMetrics("uneven"))
    with capture_logs() as logs:
        look.begin(log, [TopicPartition("t", number) for number in range(3)])
        await until(lambda: logs)
    assert logs[0]["event"] == "consumer_assignment_not_looked_at"
    await until(lambda: log.waiting == 0, limit_s=5)
