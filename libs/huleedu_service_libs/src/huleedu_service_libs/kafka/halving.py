"""Finds the message that the broker refuses: what fails together is halved until the culprit stands alone.

``delivery`` uses it. What is refused keeps back the later messages of its key, an outage keeps back everything. Sends
only through its port, and knows neither producers nor what stays in doubt.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.driver_errors import is_transient
from huleedu_service_libs.kafka.outgoing import ACKNOWLEDGED, Blocked, Item
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition

__all__ = ["Attempts", "FailedAttempt", "Halving"]

logger = create_service_logger("huleedu_service_libs.kafka")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """What became of a batch that was tried already."""

    producer: Any
    error: Exception


class Attempts(Protocol):
    """Sends to partitions, once at a time."""

    async def attempt(self, lane: TopicPartition, chunk: list[Item]) -> tuple[list[Item], Exception | None, bool]:
        """Send as much of ``chunk`` as one record batch takes: what was taken, the error, whether to try again."""
        ...

    async def mend(self, lane: TopicPartition, producer: Any, error: Exception) -> tuple[Exception, bool]:
        """Replace ``producer`` if ``error`` made it useless; the error to report, and whether to try again."""
        ...


class Halving:
    """One list of messages on its way through one partition.

    Args:
        attempts: Sends.
        lane: The partition, whose turn the caller holds.
        independent: Whether an item that is refused lets the later ones of its key through, and
            whoever waits for it reports it.
    """

    def __init__(self, attempts: Attempts, lane: TopicPartition, *, independent: bool) -> None:
        self._attempts = attempts
        self._lane = lane
        self._independent = independent
        self._blocked = Blocked()
        self._work: deque[list[Item]] = deque()  # bound: parts of the one list that it is made for

    async def run(self, items: list[Item], failed: FailedAttempt | None) -> None:
        """Give each item its outcome; ``failed`` when they were sent together already."""
        self._work.append(items)
        if failed is not None:
            error, again = await self._attempts.mend(self._lane, failed.producer, failed.error)
            if not again:
                self._take_apart(self._work.popleft(), error)
        while self._work:
            chunk = self._blocked.let_through(self._work.popleft())
            if chunk:
                await self._send(chunk)

    async def _send(self, chunk: list[Item]) -> None:
        taken, failure, again = await self._attempts.attempt(self._lane, chunk)
        if again:  # once, on a fresh producer
            taken, failure, _ = await self._attempts.attempt(self._lane, chunk)
        if len(taken) < len(chunk):
            self._work.appendleft(chunk[len(taken) :])
        if failure is not None:
            self._take_apart(taken, failure)
            return
        for item in taken:
            item.outcome = ACKNOWLEDGED

    def _take_apart(self, taken: list[Item], failure: Exception) -> None:
        if is_transient(failure):
            self._break_off(taken, failure)
        elif len(taken) == 1:
            self._refuse(taken[0], failure)
        else:  # somewhere in here is the culprit: halve until it stands alone
            middle = len(taken) // 2
            self._work.appendleft(taken[middle:])
            self._work.appendleft(taken[:middle])

    def _refuse(self, item: Item, failure: Exception) -> None:
        item.fail(failure)
        if not self._independent:
            self._blocked.add(item, failure)
            logger.error("kafka_message_refused", topic=self._lane.topic, error=error_text(failure))

    def _break_off(self, taken: list[Item], failure: Exception) -> None:
        held_back = [item for chunk in self._work for item in chunk]
        self._work.clear()
        for item in taken:
            item.fail(failure)
        for item in held_back:
            item.hold_back(failure)
        if self._independent:
            return
        logger.error(
            "kafka_batch_unacknowledged",
            topic=self._lane.topic,
            partition=self._lane.partition,
            error=error_text(failure),
            messages=len(taken),
            held_back=len(held_back),
        )
