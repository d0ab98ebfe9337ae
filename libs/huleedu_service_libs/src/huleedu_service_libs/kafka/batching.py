"""Sends many messages as whole record batches, and tells what became of each.

`KafkaBus.publish_batch` uses it, and through that the outbox relay. Messages
are split into lanes, one a partition; lanes run side by side, the record
batches of a lane one after the other (``delivery``). Handing aiokafka whole batches is several
times faster than one future a message, and lets a failure stop a partition
before anything overtakes it. Knows nothing of envelopes or of starting and stopping.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.delivery import Delivery
from huleedu_service_libs.kafka.outgoing import Blocked, Item
from huleedu_service_libs.kafka.routing import Routes
from huleedu_service_libs.kafka.validation import find_fault
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition

__all__ = ["BatchSender"]

logger = create_service_logger("huleedu_service_libs.kafka")


class BatchSender:
    """Delivers lists of messages through a bus's producer.

    Args:
        routes: Finds partitions.
        delivery: Sends to them.
        max_request_size: Largest message, bytes.
    """

    def __init__(self, routes: Routes, delivery: Delivery, *, max_request_size: int) -> None:
        self._routes = routes
        self._delivery = delivery
        self._max_request_size = max_request_size

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """Deliver ``messages``; one outcome each, in the same order. See `BatchPublisher`."""
        items = [Item(message) for message in messages]
        by_topic: defaultdict[str, list[Item]] = defaultdict(list)
        for item in self._without_faulty(items):
            by_topic[item.message.topic].append(item)
        lanes = await asyncio.gather(*(self._lanes(topic, group) for topic, group in by_topic.items()))
        await asyncio.gather(*(self._run(lane, group) for each in lanes for lane, group in each.items()))
        return [_known(item) for item in items]

    def _without_faulty(self, items: Sequence[Item]) -> list[Item]:
        """What may be sent: faulty messages fail here, and hold back the later ones of their key."""
        blocked = Blocked()
        sendable = []
        for item in items:
            fault = find_fault(item.message, self._max_request_size)
            if fault is not None:
                item.fail(fault)
                blocked.add(item, fault)
            else:
                sendable += blocked.let_through([item])
        return sendable

    async def _lanes(self, topic: str, items: list[Item]) -> dict[TopicPartition, list[Item]]:
        lanes: defaultdict[TopicPartition, list[Item]] = defaultdict(list)
        try:
            route = self._routes.known(topic) or await self._routes.find(topic)
        except Exception as error:  # noqa: BLE001  # never raises for a message: the outcome carries it
            _fail_topic(topic, items, error)
            return {}
        for item in items:
            lanes[route.lane_of(item.message.key)].append(item)
        return lanes

    async def _run(self, lane: TopicPartition, items: list[Item]) -> None:
        async with self._delivery.turns[lane].held():
            await self._delivery.send(lane, items)


def _fail_topic(topic: str, items: list[Item], cause: Exception) -> None:
    for item in items:
        item.fail(cause)
    logger.error("kafka_topic_unknown", topic=topic, error=error_text(cause), messages=len(items))


def _known(item: Item) -> DeliveryOutcome:
    if item.outcome is None:  # pragma: no cover  # every path above gives one; this is for the type checker
        raise AssertionError("a message was neither sent nor refused")
    return item.outcome
