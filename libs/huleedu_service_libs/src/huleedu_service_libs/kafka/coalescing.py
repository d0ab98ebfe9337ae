"""Lets messages that are published one by one at the same time travel as record batches.

`KafkaBus.publish` uses it. It admits messages within a bound, finds their partition, gives them to
its lane (``publish_lane``) and answers the caller: with its own error, in its own time, and a
caller that was cancelled harms nobody. One timer serves all callers. Knows no envelope.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._tasks import begin
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.delivery import Delivery
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka.publish_lane import PublishLane
from huleedu_service_libs.kafka.routing import Route, Routes
from huleedu_service_libs.kafka.singles import Single, take_expired
from huleedu_service_libs.protocols import OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition
    from aiokafka.errors import ProducerClosed

__all__ = ["Coalescer"]


class Coalescer:
    """Sends single messages through a bus's producer.

    Messages of one key arrive in the order of the calls, whoever makes them.

    Args:
        host: Where the producer comes from.
        routes: Finds partitions.
        delivery: Sends what needs more than one attempt.
        config: Time-outs and sizes.
    """

    def __init__(self, host: ProducerHost, routes: Routes, delivery: Delivery, config: KafkaBusConfig) -> None:
        self._host = host
        self._routes = routes
        self._delivery = delivery
        self._timeout_s = config.publish_timeout_s
        self._free = config.max_buffered_bytes
        # No room yet. bound: one for each caller, who waits for it, and leaves when its time is up
        self._queue: deque[Single] = deque()
        # By topic, whose partitions are being asked for. bound: what has been let in, max_buffered_bytes
        self._unrouted: dict[str, deque[Single]] = {}
        self._lanes: dict[TopicPartition, PublishLane] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._callers = 0
        self._empty: asyncio.Future[None] | None = None

    async def send(self, message: OutgoingMessage) -> None:
        """Return when the broker has acknowledged ``message``.

        Raises:
            PublishTimeoutError: Not in time.
            MessageHeldBackError: An earlier message of the partition is in doubt, so this one was not sent.
            ProducerClosed: The bus was stopped.
            aiokafka.errors.KafkaError: Anything else, as the driver raises it.
        """
        loop = asyncio.get_running_loop()
        single = Single(message, loop.time() + self._timeout_s, loop.create_future())
        self._callers += 1
        try:
            self._admit(single)
            if self._timer is None:
                self._timer = loop.call_at(single.deadline, self._expire)
            await single.waiter
        except asyncio.CancelledError:
            single.abandon()
            raise
        finally:
            self._leave(single)

    async def drain(self, within_s: float) -> None:
        """Wait until nobody waits any longer; what the driver does not have by then fails with `ProducerClosed`."""
        if self._callers:
            self._empty = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._empty}, timeout=within_s)
            self._empty = None
            self._give_up(ProducerClosed("the Kafka bus was stopped"))
        if self._timer is not None and not self._callers:
            self._timer.cancel()
            self._timer = None

    def _admit(self, single: Single) -> None:
        if self._queue or single.size > self._free:
            self._queue.append(single)
        else:
            self._let_in(single)

    def _let_in(self, single: Single) -> None:
        self._free -= single.size
        single.is_admitted = True
        topic = single.message.topic
        asked_for = self._unrouted.get(topic)
        if asked_for is not None:
            asked_for.append(single)
            return
        try:
            route = self._routes.known(topic)
        except ProducerClosed as error:
            single.give_up(error)
            return
        if route is not None:
            self._add(route, single)
            return
        self._unrouted[topic] = deque([single])
        _spawn(self._find(topic))

    def _leave(self, single: Single) -> None:
        if single.is_admitted:
            self._free += single.size
        while self._queue and (self._queue[0].is_over or self._queue[0].size <= self._free):
            first = self._queue.popleft()
            if not first.is_over:
                self._let_in(first)
        self._callers -= 1
        if not self._callers and self._empty is not None and not self._empty.done():
            self._empty.set_result(None)

    def _add(self, route: Route, single: Single) -> None:
        partition = route.lane_of(single.message.key)
        lane = self._lanes.get(partition)
        if lane is None:
            lane = self._lanes[partition] = PublishLane(partition, self._host, self._delivery, _spawn)
        lane.add(single)

    async def _find(self, topic: str) -> None:
        try:
            route = await self._routes.find(topic)
        except Exception as error:  # noqa: BLE001  # the callers get it
            for single in self._unrouted.pop(topic):
                single.give_up(error)
            return
        for single in self._unrouted.pop(topic):
            if not single.is_over:
                self._add(route, single)

    def _expire(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for waiting in (self._queue, *self._unrouted.values()):
            for single in take_expired(waiting, now):
                single.expire(self._timeout_s, sent=False)
        for lane in self._lanes.values():
            lane.expire(now, self._timeout_s)
        deadline = self._next_deadline()
        self._timer = None if deadline is None else loop.call_at(deadline, self._expire)

    def _next_deadline(self) -> float | None:
        heads = [waiting[0].deadline for waiting in (self._queue, *self._unrouted.values()) if waiting]
        heads += [found for lane in self._lanes.values() if (found := lane.next_deadline()) is not None]
        return min(heads, default=None)

    def _give_up(self, error: Exception) -> None:
        for waiting in (self._queue, *self._unrouted.values()):
            while waiting:
                waiting.popleft().give_up(error)
        for lane in self._lanes.values():
            lane.give_up(error)


def _spawn(work: Coroutine[Any, Any, None]) -> None:
    _ = begin(work, name="kafka-publish")
