"""Record batches as aiokafka takes them, and the sequence numbers that they use up.

``delivery`` and ``publish_lane`` use it. Every reach into aiokafka's insides that sending needs is in
here, what a producer's life needs in ``driver_producer``; who is told of an outcome is not known.
"""

import asyncio
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.protocols import OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import AIOKafkaProducer, TopicPartition
    from aiokafka.errors import KafkaTimeoutError, ProducerClosed
    from aiokafka.producer.transaction_manager import TransactionManager

__all__ = ["OpenBatch", "SequenceNumbers", "closed_batch", "failure_of", "takes_open_batches"]

_DRIVERS_OWN = AIOKafkaProducer.send_and_wait


def takes_open_batches(producer: Any) -> bool:
    """Whether ``producer`` is aiokafka's own and as aiokafka made it; a double of it is sent to by `send_and_wait`."""
    return (
        type(producer) is AIOKafkaProducer
        and AIOKafkaProducer.send_and_wait is _DRIVERS_OWN
        and "send_and_wait" not in producer.__dict__
    )


def closed_batch(producer: Any, messages: Sequence[OutgoingMessage]) -> tuple[Any, int]:
    """A batch with as many of ``messages`` as fit, and how many those are."""
    batch = producer.create_batch()
    count = 0
    for message in messages:
        if not _append(batch, message):
            break
        count += 1
    batch.close()  # or single sends would slip into it
    return batch, count


def _append(builder: Any, message: OutgoingMessage) -> bool:
    headers = list(message.headers) if message.headers else []
    return builder.append(timestamp=None, key=message.key, value=message.value, headers=headers) is not None


class OpenBatch:
    """A record batch that the driver has already, and that takes messages until it is on its way.

    `AIOKafkaProducer.send_batch` does the same in two steps of the event loop more, in which the
    driver's sender would have left without what the callers of that moment publish.

    Args:
        producer: aiokafka's own.
        lane: Where the batch goes.
        message: The first.

    Attributes:
        producer: As given.

    Raises:
        ProducerClosed: The producer was stopped.
        aiokafka.errors.KafkaError: The driver's sender has died of it.
    """

    __slots__ = ("_batch", "_builder", "_numbers", "producer")

    def __init__(self, producer: Any, lane: TopicPartition, message: OutgoingMessage) -> None:
        accumulator = producer._message_accumulator  # noqa: SLF001  # see the class
        if accumulator._closed:  # noqa: SLF001  # as above
            raise ProducerClosed("the Kafka producer was stopped")
        if accumulator._exception is not None:  # noqa: SLF001  # as above
            raise copy.copy(accumulator._exception)  # noqa: SLF001  # as above
        self.producer = producer
        self._builder = accumulator.create_builder()
        self._numbers = SequenceNumbers.before(producer, lane)
        _append(self._builder, message)  # the first always fits
        self._batch = accumulator._append_batch(self._builder, lane)  # noqa: SLF001  # as above

    @property
    def future(self) -> asyncio.Future[Any]:
        """Done when the broker has answered for the batch. Not to be cancelled."""
        return self._batch.future  # type: ignore[no-any-return]  # untyped class

    def append(self, message: OutgoingMessage) -> bool:
        """Take one more; ``False`` when the batch is full or on its way.

        The driver counts the records when it takes the batch, and closes the builder a little later.
        """
        return self._batch.retry_count == 0 and _append(self._builder, message)

    def give_back_numbers(self) -> bool:
        """See `SequenceNumbers.give_back`."""
        return self._numbers is not None and self._numbers.give_back(self._builder.record_count())


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """Those that aiokafka takes for one batch."""

    manager: Any
    lane: TopicPartition
    first: int

    @classmethod
    def before(cls, producer: Any, lane: TopicPartition) -> "SequenceNumbers | None":
        """The numbers that a batch which is about to be sent will take; ``None`` where there are none."""
        manager = getattr(producer, "_txn_manager", None)
        if not isinstance(manager, TransactionManager):  # not idempotent, or a double
            return None
        return cls(manager, lane, manager.sequence_number(lane))

    def give_back(self, count: int) -> bool:
        """Let the next batch take the ``count`` numbers; ``False`` when others were taken since, or before.

        To be called before anything else is sent. Otherwise each refusal would cost a new producer,
        and a batch with many refused messages many.
        """
        if self.manager.sequence_number(self.lane) != self.first + count:
            return False
        self.manager._sequence_numbers[self.lane] = self.first  # noqa: SLF001  # no public way, see aiokafka issue 1017
        return True


def failure_of(future: asyncio.Future[Any]) -> Exception | None:
    """The error of a finished future; asking also keeps asyncio from reporting it as unseen."""
    if future.cancelled():
        return KafkaTimeoutError("delivery was cancelled")  # type: ignore[no-any-return]  # untyped class
    error = future.exception()
    return error if isinstance(error, Exception) else None
