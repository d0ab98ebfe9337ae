"""Membership under a static id, and committed offsets that no log holds any more: on real Kafka."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from structlog.testing import capture_logs

from huleedu_service_libs.kafka.consumer import Delivery, EventConsumer
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from ..waiting import until
from .conftest import EVENT_TYPE, MakeConsumer, Numbered, Send, numbered

pytestmark = pytest.mark.integration

Member = Callable[..., EventConsumer]


@pytest.fixture(name="seen")
def _seen() -> list[tuple[str, int]]:
    """Name of the member and number of each event that was handled."""
    return []


@pytest.fixture(name="member")
def _member(make_consumer: MakeConsumer, seen: list[tuple[str, int]]) -> Member:
    """Makes a consumer that notes what it handles."""

    def make(topic: str, name: str, **options: Any) -> EventConsumer:
        consumer = make_consumer(topic, **options)

        @consumer.on(EVENT_TYPE, model=Numbered)
        async def handle(delivery: Delivery[Numbered]) -> None:
            seen.append((name, delivery.data.number))

        return consumer

    return make


def _events(logs: list[Any], name: str) -> list[Any]:
    return [line for line in logs if line["event"] == name]


async def test_a_static_member_that_restarts_disturbs_nobody(
    member: Member, kafka_topic: TopicFactory, send: Send, seen: list[tuple[str, int]]
) -> None:
    """A process that comes again under its static id goes on with its partitions; the other keeps its own, unrevoked."""
    topic = kafka_topic("numbers", partitions=4)
    quick = {"session_timeout_s": 60.0}
    other = member(topic, "other", static_id="a", **quick)
    await other.start()
    first = member(topic, "first", static_id="b", **quick)
    await first.start()
    await until(lambda: other.status().partitions == 2 and first.status().partitions == 2)
    await first.stop()  # a static member does not leave, so this is what a death is for the group
    with capture_logs() as logs:
        again = member(topic, "again", static_id="b", **quick)
        async with asyncio.timeout(45):  # less than the session time-out, by which the broker would miss the first
            await again.start()
            await send(*[numbered(topic, n, f"key-{n}") for n in range(40)])
            await until(lambda: len(seen) == 40)
    assert {name for name, _ in seen} == {"other", "again"}
    assert not _events(logs, "consumer_partitions_revoked")
    assert not _events(logs, "consumer_static_id_taken")


async def test_two_processes_with_one_static_id_are_told(member: Member, kafka_topic: TopicFactory) -> None:
    """Members that take the partitions from each other say so, with the id and what to do."""
    topic = kafka_topic("numbers")
    elder = member(topic, "elder", static_id="same")
    await elder.start()
    with capture_logs() as logs:
        younger = member(topic, "younger", static_id="same")
        await younger.start()
        await until(lambda: bool(_events(logs, "consumer_static_id_taken")))
    line = _events(logs, "consumer_static_id_taken")[0]
    assert line["static_id"] == "same"
    assert "static_id of its own" in line["fix"]


@pytest.mark.parametrize(("from_beginning", "unread"), [(True, 0), (False, 5)])
async def test_a_log_that_ends_before_the_committed_offset_is_noticed(
    member: Member,
    kafka_topic: TopicFactory,
    send: Send,
    seen: list[tuple[str, int]],
    real_kafka: KafkaServer,
    from_beginning: bool,  # noqa: FBT001  # a parameter of the test
    unread: int,
) -> None:
    """The log was cut or the topic copied from another cluster: it is said where reading goes on, and what is passed over."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, f"key-{n}") for n in range(5)])
    after = member(topic, "after", from_beginning=from_beginning)
    async with AIOKafkaConsumer(
        bootstrap_servers=real_kafka.address, group_id=after.config.group_id, enable_auto_commit=False
    ) as former:
        former.assign([TopicPartition(topic, 0)])
        await former.commit({TopicPartition(topic, 0): 20})
    with capture_logs() as logs:
        await after.start()
        await until(lambda: bool(_events(logs, "consumer_place_beyond_end")))
    line = _events(logs, "consumer_place_beyond_end")[0]
    assert (line["committed"], line["first"], line["end"], line["unread"]) == (20, 0, 5, unread)
    if from_beginning:
        await until(lambda: {n for _, n in seen} == set(range(5)))


async def test_events_that_expired_unread_are_counted(
    member: Member, kafka_topic: TopicFactory, send: Send, seen: list[tuple[str, int]], real_kafka: KafkaServer
) -> None:
    """Retention that was faster than the group: the line says how many events nobody has read."""
    topic = kafka_topic("numbers")
    await send(*[numbered(topic, n, f"key-{n}") for n in range(20)])
    before = member(topic, "before")
    await before.start()
    await until(lambda: len(seen) == 20)
    await before.stop()
    await send(*[numbered(topic, n, f"key-{n}") for n in range(20, 40)])
    admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=33)})
    await admin.close()
    with capture_logs() as logs:
        after = member(topic, "after")
        await after.start()
        await until(lambda: bool(_events(logs, "consumer_place_expired")))
        await until(lambda: ("after", 39) in seen)
    line = _events(logs, "consumer_place_expired")[0]
    assert (line["committed"], line["first"], line["unread"]) == (20, 33, 13)
