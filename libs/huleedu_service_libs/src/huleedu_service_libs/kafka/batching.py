"""Sends many messages as whole record batches, and tells what became of each.

`KafkaBus.publish_batch` uses it, and through that the outbox relay. Messages
are split into lanes, one a partition; lanes run side by side, the record
batches of a lane one after the other. Handing aiokafka whole batches is several
times faster than one future a message, and lets a failure stop a partition
before anything overtakes it. Knows nothing of envelopes or of starting and stopping.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.driver_errors import (
    PublishTimeoutError,
    is_content_refusal,
    is_sequence_error,
    is_transient,
    needs_new_producer,
)
from huleedu_service_libs.kafka.errors import MessageHeldBackError
from huleedu_service_libs.kafka.partitioning import partition_for
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka.validation import find_fault
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition
    from aiokafka.errors import KafkaTimeoutError, ProducerClosed

__all__ = ["BatchSender"]

logger = create_service_logger("huleedu_service_libs.kafka")

_ACKNOWLEDGED = DeliveryOutcome()


@dataclass(slots=True, eq=False)
class _Item:
    """One message on its way; ``outcome`` is filled in as it becomes known."""

    message: OutgoingMessage
    outcome: DeliveryOutcome | None = None

    @property
    def order(self) -> tuple[str, bytes] | None:
        """Messages with the same one must keep their order; ``None`` stands alone."""
        return None if self.message.key is None else (self.message.topic, self.message.key)

    def fail(self, error: Exception) -> None:
        self.outcome = DeliveryOutcome(error=error, transient=is_transient(error))

    def hold_back(self, cause: Exception) -> None:
        error = MessageHeldBackError(self.message.topic, error_text(cause))
        self.outcome = DeliveryOutcome(error=error, transient=True, attempted=False)


@dataclass(slots=True, eq=False)
class _InDoubt:
    """A record batch whose acknowledgement nobody waited for any longer; it may still arrive."""

    producer: Any
    future: asyncio.Future[Any]
    messages: list[OutgoingMessage]


class _Blocked:
    """Keys that must wait because an earlier message of theirs failed for good."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, bytes], Exception] = {}

    def add(self, item: _Item, cause: Exception) -> None:
        if item.order is not None:
            self._causes.setdefault(item.order, cause)

    def let_through(self, items: Sequence[_Item]) -> list[_Item]:
        """The items that need not wait; the others are marked as held back."""
        if not self._causes:
            return list(items)
        free = []
        for item in items:
            cause = None if item.order is None else self._causes.get(item.order)
            if cause is None:
                free.append(item)
            else:
                item.hold_back(cause)
        return free


class BatchSender:
    """Delivers lists of messages through a bus's producer.

    A record batch that was not acknowledged in time, or whose sender was cancelled, stays *in
    doubt*: aiokafka goes on trying to deliver it. The next call for that partition waits for it
    first, so that nothing overtakes it, and messages that turn out to have arrived are
    acknowledged instead of sent twice.

    Args:
        host: Where the producer comes from.
        config: Time-outs and sizes.
    """

    def __init__(self, host: ProducerHost, config: KafkaBusConfig) -> None:
        self._host = host
        self._config = config
        self._turns: defaultdict[TopicPartition, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._in_doubt: dict[TopicPartition, _InDoubt] = {}
        self._given_back: set[TopicPartition] = set()

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """Deliver ``messages``; one outcome each, in the same order. See `BatchPublisher`."""
        items = [_Item(message) for message in messages]
        sendable = self._without_faulty(items)
        by_topic: defaultdict[str, list[_Item]] = defaultdict(list)
        for item in sendable:
            by_topic[item.message.topic].append(item)
        lanes = await asyncio.gather(*(self._lanes(topic, group) for topic, group in by_topic.items()))
        await asyncio.gather(*(self._run(lane, group) for each in lanes for lane, group in each.items()))
        return [_known(item) for item in items]

    def _without_faulty(self, items: Sequence[_Item]) -> list[_Item]:
        """What may be sent: faulty messages fail here, and hold back the later ones of their key."""
        blocked = _Blocked()
        sendable = []
        for item in items:
            fault = find_fault(item.message, self._config.max_request_size)
            if fault is not None:
                item.fail(fault)
                blocked.add(item, fault)
            else:
                sendable += blocked.let_through([item])
        return sendable

    async def _lanes(self, topic: str, items: list[_Item]) -> dict[TopicPartition, list[_Item]]:
        lanes: defaultdict[TopicPartition, list[_Item]] = defaultdict(list)
        try:
            producer = self._host.live
            async with asyncio.timeout(self._config.publish_timeout_s):
                partitions = sorted(await producer.partitions_for(topic))
        except Exception as error:  # noqa: BLE001  # never raises for a message: the outcome carries it
            cause = _timed_out(error, topic, self._config.publish_timeout_s)
            _fail_topic(topic, items, cause)
            return {}
        with_leader = sorted(producer.client.cluster.available_partitions_for_topic(topic) or partitions)
        for item in items:
            partition = partition_for(item.message.key, partitions, with_leader)
            lanes[TopicPartition(topic, partition)].append(item)
        return lanes

    async def _run(self, lane: TopicPartition, items: list[_Item]) -> None:
        async with self._turns[lane]:
            try:
                failure = await self._settle(lane, items)
            except Exception as error:  # noqa: BLE001  # as above
                failure = error
            open_items = [item for item in items if item.outcome is None]
            if failure is None:
                await self._send_in_order(lane, open_items)
            else:
                for item in open_items:
                    item.hold_back(failure)

    async def _settle(self, lane: TopicPartition, items: list[_Item]) -> Exception | None:
        """Wait for the lane's batch in doubt, if there is one; the error when it stays in doubt."""
        doubt = self._in_doubt.get(lane)
        if doubt is None:
            return None
        await asyncio.wait({doubt.future}, timeout=self._config.publish_timeout_s)
        if not doubt.future.done():
            return PublishTimeoutError(lane.topic, self._config.publish_timeout_s)
        del self._in_doubt[lane]
        error = _failure_of(doubt.future)
        if error is None:
            arrived = list(doubt.messages)
            for item in items:
                if item.message in arrived:
                    arrived.remove(item.message)
                    item.outcome = _ACKNOWLEDGED
        elif needs_new_producer(error):
            await self._host.replace(doubt.producer, reason=type(error).__name__)
        return None

    async def _send_in_order(self, lane: TopicPartition, items: list[_Item]) -> None:
        blocked = _Blocked()
        work = deque([items])
        while work:
            chunk = blocked.let_through(work.popleft())
            if not chunk:
                continue
            taken, failure = await self._deliver(lane, chunk)
            if len(taken) < len(chunk):
                work.appendleft(chunk[len(taken) :])
            if failure is None:
                for item in taken:
                    item.outcome = _ACKNOWLEDGED
            elif is_transient(failure):
                self._break_off(lane, taken, work, failure)
                return
            elif len(taken) == 1:
                taken[0].fail(failure)
                blocked.add(taken[0], failure)
                logger.error("Kafka refused a message", topic=lane.topic, error=error_text(failure))
            else:  # somewhere in here is the culprit: halve until it stands alone
                middle = len(taken) // 2
                work.appendleft(taken[middle:])
                work.appendleft(taken[:middle])

    def _break_off(
        self, lane: TopicPartition, taken: list[_Item], work: deque[list[_Item]], failure: Exception
    ) -> None:
        for item in taken:
            item.fail(failure)
        held_back = [item for chunk in work for item in chunk]
        for item in held_back:
            item.hold_back(failure)
        logger.error(
            "Kafka batch not acknowledged",
            topic=lane.topic,
            partition=lane.partition,
            error=error_text(failure),
            messages=len(taken),
            held_back=len(held_back),
        )

    async def _deliver(self, lane: TopicPartition, chunk: list[_Item]) -> tuple[list[_Item], Exception | None]:
        """Send as much of ``chunk`` as one record batch takes; what was taken, and the error.

        Tried again once on a fresh producer when the broker is known to have appended nothing.
        """
        taken, failure, again = await self._deliver_once(lane, chunk)
        if again:
            taken, failure, _ = await self._deliver_once(lane, chunk)
        return taken, failure

    async def _deliver_once(
        self, lane: TopicPartition, chunk: list[_Item]
    ) -> tuple[list[_Item], Exception | None, bool]:
        producer: Any = None
        taken: list[_Item] = chunk[:1]
        try:
            producer = self._host.live
            batch, taken = _fill(producer, chunk)
            await self._acknowledged(producer, batch, lane, [item.message for item in taken])
        except ProducerClosed as error:  # replaced between two steps
            return taken, error, producer is not None
        except Exception as error:  # noqa: BLE001  # as above
            if not needs_new_producer(error) or (is_content_refusal(error) and lane in self._given_back):
                return taken, error, False
            try:
                await self._host.replace(producer, reason=type(error).__name__)
            except Exception as unreachable:  # noqa: BLE001  # as above
                return taken, unreachable, False
            return taken, error, is_sequence_error(error)
        return taken, None, False

    async def _acknowledged(
        self, producer: Any, batch: Any, lane: TopicPartition, messages: list[OutgoingMessage]
    ) -> None:
        timeout_s = self._config.publish_timeout_s
        self._given_back.discard(lane)
        numbers = _SequenceNumbers.before(producer, lane, len(messages))
        try:
            async with asyncio.timeout(timeout_s):
                future = await producer.send_batch(batch, lane.topic, partition=lane.partition)
        except (TimeoutError, KafkaTimeoutError) as error:
            raise PublishTimeoutError(lane.topic, timeout_s) from error
        future.add_done_callback(partial(self._give_back, lane, numbers))
        try:
            await asyncio.wait({future}, timeout=timeout_s)
        finally:
            if not future.done():  # too late, or cancelled
                self._in_doubt[lane] = _InDoubt(producer, future, messages)
        if not future.done():
            raise PublishTimeoutError(lane.topic, timeout_s)
        await future

    def _give_back(self, lane: TopicPartition, numbers: "_SequenceNumbers | None", future: asyncio.Future[Any]) -> None:
        """Take back the sequence numbers of a batch that the broker has refused, before anything else is sent.

        Otherwise each refusal would cost a new producer, and a batch with many refused messages many.
        """
        error = _failure_of(future)
        if error is not None and is_content_refusal(error) and numbers is not None and numbers.give_back():
            self._given_back.add(lane)


@dataclass(frozen=True, slots=True)
class _SequenceNumbers:
    """Those that aiokafka takes for one batch."""

    manager: Any
    lane: TopicPartition
    first: int
    count: int

    @classmethod
    def before(cls, producer: Any, lane: TopicPartition, count: int) -> "_SequenceNumbers | None":
        """The numbers that a batch which is about to be sent will take; ``None`` where there are none."""
        manager = getattr(producer, "_txn_manager", None)
        if manager is None:
            return None
        return cls(manager, lane, manager.sequence_number(lane), count)

    def give_back(self) -> bool:
        """Let the next batch take them; ``False`` when others were taken since, or a part was taken before."""
        if self.manager.sequence_number(self.lane) != self.first + self.count:
            return False
        self.manager._sequence_numbers[self.lane] = self.first  # noqa: SLF001  # no public way, see aiokafka issue 1017
        return True


def _fill(producer: Any, chunk: list[_Item]) -> tuple[Any, list[_Item]]:
    batch = producer.create_batch()
    count = 0
    for item in chunk:
        message = item.message
        appended = batch.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
        if appended is None:
            break
        count += 1
    batch.close()  # or single sends would slip into it
    return batch, chunk[:count]


def _failure_of(future: asyncio.Future[Any]) -> Exception | None:
    """The error of a finished future; asking also keeps asyncio from reporting it as unseen."""
    if future.cancelled():
        return KafkaTimeoutError("delivery was cancelled")  # type: ignore[no-any-return]  # untyped class
    error = future.exception()
    return error if isinstance(error, Exception) else None


def _fail_topic(topic: str, items: list[_Item], cause: Exception) -> None:
    for item in items:
        item.fail(cause)
    logger.error("Kafka topic has no known partitions", topic=topic, error=error_text(cause), messages=len(items))


def _timed_out(error: Exception, topic: str, timeout_s: float) -> Exception:
    return PublishTimeoutError(topic, timeout_s) if isinstance(error, TimeoutError) else error


def _known(item: _Item) -> DeliveryOutcome:
    if item.outcome is None:  # pragma: no cover  # every path above gives one; this is for the type checker
        raise AssertionError("a message was neither sent nor refused")
    return item.outcome
