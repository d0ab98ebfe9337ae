"""The driver's consumer, made as this package needs it, and the topics that it needs.

The runner makes it, session and places call it. aiokafka 0.14 knows the eager protocol alone: at every
rebalance all partitions are revoked, and the sticky assignor gives most of
them back.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._tasks import is_cancelled
from huleedu_service_libs.kafka.cluster_look import security_of
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.errors import ConsumerSetupError

with requires_extra("kafka", module=__name__):
    from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.coordinator.assignors.range import RangePartitionAssignor
    from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
    from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
    from aiokafka.errors import InconsistentGroupProtocolError, TopicAlreadyExistsError, for_code

__all__ = ["Listener", "create_consumer", "create_missing_topics", "joining", "member_of", "not_cut_off"]

_T = TypeVar("_T")

_ADMIN_LIMIT_S = 20.0

Revoked = Callable[[], Awaitable[None]]


class Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """Tells the runner of rebalances; before the others get the partitions, it waits for the runner.

    Args:
        revoked: Awaited while the partitions are still ours.
        assigned: Called with those that came.
    """

    def __init__(self, revoked: Revoked, assigned: Callable[[Collection[Any]], None]) -> None:
        self._revoked = revoked
        self._assigned = assigned

    async def on_partitions_revoked(self, revoked: Collection[Any]) -> None:  # noqa: ARG002  # it is always all of them
        """Partitions are about to go; none of them when we have none, and then others take their time."""
        await self._revoked()

    async def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Partitions have come."""
        self._assigned(assigned)


def create_consumer(
    config: ConsumerConfig, bootstrap_servers: str, topics: Sequence[str], *, drain_s: float, listener: Listener
) -> Any:
    """An `AIOKafkaConsumer`, subscribed and not started.

    Args:
        config: Of the consumer.
        bootstrap_servers: Where Kafka is.
        topics: What to subscribe to, retry topics included.
        drain_s: Seconds that a revocation may take on our side.
        listener: Is told of rebalances.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers,
        group_id=config.group_id,
        client_id=config.client_id or config.group_id,
        group_instance_id=config.static_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest" if config.from_beginning else "latest",
        isolation_level=config.isolation_level,
        partition_assignment_strategy=(_assignor(config.assignment),),
        session_timeout_ms=int(config.session_timeout_s * 1000),
        heartbeat_interval_ms=int(min(3.0, config.session_timeout_s / 5) * 1000),
        max_poll_interval_ms=int(config.max_poll_interval_s * 1000),
        rebalance_timeout_ms=int((drain_s + config.session_timeout_s) * 1000),
        **config.client_options,
    )
    consumer.subscribe(list(topics), listener=listener)
    return consumer


def _assignor(assignment: str) -> Any:
    """One, never several: with each further one aiokafka 0.14 joins once more, and each join makes the others join again.

    Two members that offer two ways each were seen to go on like that for more than half a minute.
    """
    if assignment == "range":
        return RangePartitionAssignor
    if assignment == "roundrobin":
        return RoundRobinPartitionAssignor
    # The driver's assignor keeps its state on the class: two consumers of one process would share it.
    return type("StickyAssignor", (StickyPartitionAssignor,), {"member_assignment": None})


@contextmanager
def joining(config: ConsumerConfig) -> Iterator[None]:
    """Join the group inside of it.

    Raises:
        ConsumerSetupError: The members that the group has share out its partitions in a way that we do not know.
    """
    try:
        yield
    except InconsistentGroupProtocolError as error:
        raise ConsumerSetupError(
            f"The group {config.group_id!r} has members that share out partitions in another way than"
            f" assignment={config.assignment!r}: give all of them the same (plain aiokafka consumers have 'roundrobin'"
            " if nothing else is set), or stop them first"
        ) from error


def member_of(consumer: Any) -> str:
    """The name that the group knows this member by; empty while it is none."""
    return str(getattr(getattr(consumer, "_coordinator", None), "member_id", ""))


async def create_missing_topics(
    bootstrap_servers: str, wanted: Mapping[str, str], client_options: Mapping[str, Any]
) -> list[str]:
    """Make the topics that do not exist, each with as many partitions and copies as its model has.

    Args:
        bootstrap_servers: Where Kafka is.
        wanted: Name of each topic and of its model.
        client_options: For TLS and SASL.

    Returns:
        The names of those that were made.

    Raises:
        aiokafka.errors.KafkaError: The broker refuses.
        TimeoutError: It does not answer.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers, **security_of(client_options))
    async with asyncio.timeout(_ADMIN_LIMIT_S):
        await admin.start()
        try:
            missing = sorted(set(wanted) - set(await admin.list_topics()))
            if missing:
                shapes = await _shapes_of(admin, {wanted[name] for name in missing})
                await _create(admin, {name: shapes.get(wanted[name], (1, 1)) for name in missing})
            return missing
        finally:
            await admin.close()


async def _shapes_of(admin: Any, topics: Iterable[str]) -> dict[str, tuple[int, int]]:
    """How many partitions the topics have, and how many copies."""
    described = await admin.describe_topics(sorted(topics))
    return {
        each["topic"]: (len(each["partitions"]), len(each["partitions"][0]["replicas"]))
        for each in described
        if each["partitions"]
    }


async def _create(admin: Any, shapes: Mapping[str, tuple[int, int]]) -> None:
    new = [NewTopic(name, num_partitions=parts, replication_factor=copies) for name, (parts, copies) in shapes.items()]
    response = await admin.create_topics(new)
    for _, code, *_ in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise error


async def not_cut_off(call: Awaitable[_T]) -> _T:
    """A call of the driver; one that is cancelled inside it, and not by us, has failed, and ends no loop of ours.

    Raises:
        RuntimeError: The driver has cancelled its own work.
        Exception: What the driver raised.
    """
    try:
        return await call
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise RuntimeError("The driver has cancelled its own work") from None
