"""Which partitions a topic has now, so that a message finds its own.

``batching`` and ``coalescing`` ask. What was found is kept until the driver's metadata change.
Knows no message beyond its key.
"""

import asyncio
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.driver_errors import PublishTimeoutError
from huleedu_service_libs.kafka.partitioning import partition_for
from huleedu_service_libs.kafka.producer_host import ProducerHost

with requires_extra("kafka", module=__name__):
    from aiokafka import TopicPartition

__all__ = ["Route", "Routes"]


class Route:
    """The partitions of one topic.

    Args:
        topic: Its name.
        partitions: All, ascending.
        with_leader: Those that have a leader now, ascending.
    """

    __slots__ = ("_lanes", "_numbers", "_with_leader")

    def __init__(self, topic: str, partitions: list[int], with_leader: list[int]) -> None:
        self._numbers = partitions
        self._with_leader = with_leader
        self._lanes = {number: TopicPartition(topic, number) for number in partitions}

    def lane_of(self, key: bytes | None) -> TopicPartition:
        """The partition of messages with ``key``; without a key a random one that has a leader."""
        return self._lanes[partition_for(key, self._numbers, self._with_leader)]


class Routes:
    """The topics of a bus.

    Args:
        host: Where the producer comes from.
        timeout_s: How long a topic is looked for, seconds.
    """

    def __init__(self, host: ProducerHost, timeout_s: float) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self._producer: Any = None
        self._known: dict[str, Route] = {}

    def known(self, topic: str) -> Route | None:
        """The route to ``topic`` without asking a broker; ``None`` when one has to be asked.

        Raises:
            ProducerClosed: The bus was stopped.
        """
        if self._host.live is not self._producer:
            return None
        return self._known.get(topic)

    async def find(self, topic: str) -> Route:
        """The route to ``topic``.

        Raises:
            PublishTimeoutError: It was not found in time.
            ProducerClosed: The bus was stopped.
            aiokafka.errors.KafkaError: There is no such topic, or it may not be seen.
        """
        producer = self._host.live
        try:
            async with asyncio.timeout(self._timeout_s):
                partitions = sorted(await producer.partitions_for(topic))
        except TimeoutError as error:
            raise PublishTimeoutError(topic, self._timeout_s) from error
        cluster = producer.client.cluster
        route = Route(topic, partitions, sorted(cluster.available_partitions_for_topic(topic) or partitions))
        self._remember(producer, topic, route)
        return route

    def _remember(self, producer: Any, topic: str, route: Route) -> None:
        if self._producer is not producer:
            self._producer, self._known = producer, {}
            producer.client.cluster.add_listener(self._forget)
        self._known[topic] = route

    def _forget(self, cluster: Any) -> None:
        if self._producer is not None and cluster is self._producer.client.cluster:
            self._known.clear()
