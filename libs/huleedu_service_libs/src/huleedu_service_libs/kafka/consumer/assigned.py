"""What is looked at whenever partitions have been assigned, and said when it is wrong.

Whether another process runs under our static id: the two take the partitions from each other, and every event may be
handled by both. Whether the committed offsets still lie in the logs: where they do not, the driver begins elsewhere
without a word. `Session` calls it; a look that fails is counted and logged, and changes nothing.
"""

import asyncio
from collections.abc import Collection
from typing import Any

from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._tasks import attended, begin, leave
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.driver import member_of
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["AssignmentLook"]

_LIMIT_S = 10.0

logger = create_service_logger("huleedu_service_libs.consumer")


class AssignmentLook:
    """See the module.

    Args:
        config: Of the consumer.
        metrics: Of the consumer.
    """

    def __init__(self, config: ConsumerConfig, metrics: ConsumerMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self._member = ""
        self._task: asyncio.Task[None] | None = None

    def begin(self, consumer: Any, partitions: Collection[Any]) -> None:
        """Look, beside the reading; earlier looks end."""
        self.end()
        self._compare_member(member_of(consumer))
        if partitions:
            self._task = begin(self._look(consumer, list(partitions)), name="consumer-assignment-look")

    def end(self) -> None:
        """Look no longer."""
        if self._task is not None:
            self._task.cancel()

    def _compare_member(self, member: str) -> None:
        """A static member keeps its id for as long as its session lasts and nobody else takes its name."""
        before, self._member = self._member, member
        if self._config.static_id is None or before in {"", member}:
            return
        self._metrics.swallowed("static_id_taken")
        logger.error(
            "consumer_static_id_taken",
            group=self._config.group_id,
            static_id=self._config.static_id,
            fix="give each process a static_id of its own, such as the name of its pod in a StatefulSet; unless this"
            f" one stood still for longer than session_timeout_s={self._config.session_timeout_s:g}",
        )

    async def _look(self, consumer: Any, partitions: list[Any]) -> None:
        try:
            async with asyncio.timeout(_LIMIT_S):
                # In this order: meanwhile the log grows and is committed further, by us as well.
                firsts = await consumer.beginning_offsets(partitions)
                # The driver asks for one partition at a time; asked at once they share the round trips' time.
                committed = dict(zip(partitions, await _committed(consumer, partitions), strict=True))
                ends = await consumer.end_offsets(partitions)
                for tp in partitions:
                    self._compare_place(tp, committed[tp], firsts[tp], ends[tp])
        except Exception as error:  # noqa: BLE001  # reading goes on without it
            self._metrics.swallowed("assignment_look")
            logger.warning("consumer_assignment_not_looked_at", group=self._config.group_id, **error_fields(error))

    def _compare_place(self, tp: Any, committed: int | None, first: int, end: int) -> None:
        if committed is None or first <= committed <= end:
            return
        expired = committed < first
        self._metrics.swallowed("place_expired" if expired else "place_beyond_end")
        goes_on_at = "first" if self._config.from_beginning else "end"
        logger.error(
            "consumer_place_expired" if expired else "consumer_place_beyond_end",
            group=self._config.group_id,
            kafka_topic=tp.topic,
            kafka_partition=tp.partition,
            committed=committed,
            first=first,
            end=end,
            goes_on_at=goes_on_at,
            unread=(first if self._config.from_beginning else end) - (committed if expired else first),
        )


async def _committed(consumer: Any, partitions: list[Any]) -> list[int | None]:
    """The offset of each; when one cannot be had, the others are asked for no longer."""
    asked = [attended(consumer.committed(tp), name="consumer-committed") for tp in partitions]
    try:
        offsets: list[int | None] = await asyncio.gather(*asked)
    finally:
        leave(*asked)
    return offsets
