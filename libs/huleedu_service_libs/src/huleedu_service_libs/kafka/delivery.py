"""Sends the messages of one partition in order, whatever happens to them on the way.

``batching`` hands it the lanes of a batch, ``coalescing`` what failed together with others. It replaces a producer that
is out of step, and remembers what nobody waits for any longer; who is to blame for a failure is found by ``halving``.
Knows one partition at a time and no envelope.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.driver_batches import SequenceNumbers, closed_batch, failure_of
from huleedu_service_libs.kafka.driver_errors import (
    PublishTimeoutError,
    is_sequence_error,
    needs_new_producer,
)
from huleedu_service_libs.kafka.halving import FailedAttempt, Halving
from huleedu_service_libs.kafka.outgoing import ACKNOWLEDGED, Item
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka.turns import Turn
from huleedu_service_libs.outages import is_refused_by_kafka
from huleedu_service_libs.protocols import OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition
    from aiokafka.errors import KafkaTimeoutError, ProducerClosed

__all__ = ["Delivery", "FailedAttempt", "InDoubt"]


@dataclass(slots=True, eq=False)
class InDoubt:
    """A record batch whose acknowledgement nobody waited for any longer; it may still arrive."""

    producer: Any
    future: asyncio.Future[Any]
    messages: list[OutgoingMessage]


class Delivery:
    """Sends to the partitions of a bus.

    A record batch that was not acknowledged in time, or whose sender was cancelled, stays *in
    doubt*: aiokafka goes on trying to deliver it. Whoever has the partition's turn next waits for it
    first, so that nothing overtakes it, and messages that turn out to have arrived are
    acknowledged instead of sent twice.

    Args:
        host: Where the producer comes from.
        timeout_s: How long a batch may remain unacknowledged, seconds.

    Attributes:
        turns: Whoever sends to a partition must hold its turn.
        in_doubt: Batches in doubt, by partition.
    """

    def __init__(self, host: ProducerHost, timeout_s: float) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self.turns: defaultdict[TopicPartition, Turn] = defaultdict(Turn)
        self.in_doubt: dict[TopicPartition, InDoubt] = {}
        self._given_back: set[TopicPartition] = set()

    async def send(
        self,
        lane: TopicPartition,
        items: list[Item],
        *,
        independent: bool = False,
        failed: FailedAttempt | None = None,
    ) -> None:
        """Give each item its outcome; never raises for a message.

        Args:
            lane: The partition, whose turn the caller holds.
            items: In their order.
            independent: Whether an item that is refused lets the later ones of its key through, and
                whoever waits for it reports it.
            failed: They were sent together already, and this came of it.
        """
        try:
            failure = None if failed else await self._settle(lane, items)
        except Exception as error:  # noqa: BLE001  # the outcomes carry it
            failure = error
        open_items = [item for item in items if item.outcome is None]
        if failure is not None:
            for item in open_items:
                item.hold_back(failure)
            return
        await Halving(self, lane, independent=independent).run(open_items, failed)

    def note_refusal(self, lane: TopicPartition, *, given_back: bool) -> None:
        """A batch is about to be sent, or was refused and its sequence numbers were given back."""
        if given_back:
            self._given_back.add(lane)
        else:
            self._given_back.discard(lane)

    async def _settle(self, lane: TopicPartition, items: list[Item]) -> Exception | None:
        """Wait for the lane's batch in doubt, if there is one; the error when it stays in doubt."""
        doubt = self.in_doubt.get(lane)
        if doubt is None:
            return None
        await asyncio.wait({doubt.future}, timeout=self._timeout_s)
        if not doubt.future.done():
            return PublishTimeoutError(lane.topic, self._timeout_s)
        del self.in_doubt[lane]
        error = failure_of(doubt.future)
        if error is None:
            arrived = list(doubt.messages)
            for item in items:
                if item.message in arrived:
                    arrived.remove(item.message)
                    item.outcome = ACKNOWLEDGED
        elif needs_new_producer(error):
            await self._host.replace(doubt.producer, reason=type(error).__name__)
        return None

    async def attempt(self, lane: TopicPartition, chunk: list[Item]) -> tuple[list[Item], Exception | None, bool]:
        """Send as much of ``chunk`` as one record batch takes: what was taken, the error, whether to try again."""
        producer: Any = None
        taken: list[Item] = chunk[:1]
        try:
            producer = self._host.live
            batch, count = closed_batch(producer, [item.message for item in chunk])
            taken = chunk[:count]
            await self._acknowledged(producer, batch, lane, [item.message for item in taken])
        except Exception as error:  # noqa: BLE001  # the outcomes carry it
            return taken, *await self.mend(lane, producer, error)
        return taken, None, False

    async def mend(self, lane: TopicPartition, producer: Any, error: Exception) -> tuple[Exception, bool]:
        """Replace ``producer`` if ``error`` made it useless; the error to report, and whether to try again.

        That is only so when the broker is known to have appended nothing.
        """
        if isinstance(error, ProducerClosed):  # replaced between two steps
            return error, producer is not None
        if not needs_new_producer(error) or (is_refused_by_kafka(error) and lane in self._given_back):
            return error, False
        try:
            await self._host.replace(producer, reason=type(error).__name__)
        except Exception as unreachable:  # noqa: BLE001  # as above
            return unreachable, False
        return error, is_sequence_error(error)

    async def _acknowledged(
        self, producer: Any, batch: Any, lane: TopicPartition, messages: list[OutgoingMessage]
    ) -> None:
        timeout_s = self._timeout_s
        self.note_refusal(lane, given_back=False)
        numbers = SequenceNumbers.before(producer, lane)
        try:
            async with asyncio.timeout(timeout_s):
                future = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        except (TimeoutError, KafkaTimeoutError) as error:
            raise PublishTimeoutError(lane.topic, timeout_s) from error
        future.add_done_callback(partial(self._give_back, lane, numbers, len(messages)))
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        finally:
            if not future.done():  # too late, or cancelled
                self.in_doubt[lane] = InDoubt(producer, future, messages)
        if not future.done():
            raise PublishTimeoutError(lane.topic, timeout_s)
        await future

    def _give_back(
        self, lane: TopicPartition, numbers: SequenceNumbers | None, count: int, future: asyncio.Future[Any]
    ) -> None:
        error = failure_of(future)
        if error is not None and is_refused_by_kafka(error) and numbers is not None and numbers.give_back(count):
            self.note_refusal(lane, given_back=True)
