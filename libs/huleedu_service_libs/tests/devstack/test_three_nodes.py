"""A Kafka cluster of three nodes survives the loss of one."""

import asyncio

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from huleedu_service_libs.testing.devstack import DevStack, Kind
from huleedu_service_libs.testing.devstack.answers import brokers_known_to
from huleedu_service_libs.testing.devstack.errors import JavaMissingError
from huleedu_service_libs.testing.devstack.java import find_java_tools

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _java() -> None:
    """Three nodes need Java and Maven."""
    try:
        find_java_tools()
    except JavaMissingError as error:
        pytest.skip(f"three nodes need Java and Maven: {error}")


async def test_acknowledged_by_all_with_a_node_killed() -> None:
    """With acks=all nothing acknowledged is lost over a killed node, which can then rejoin."""
    with DevStack(["kafka"], kafka_nodes=3, environ={}) as stack:
        kafka = stack.kafka
        assert kafka.kind is Kind.JVM
        assert kafka.node_count == 3
        kafka.create_topic("essays", partitions=3)
        async with AIOKafkaProducer(bootstrap_servers=kafka.address, acks="all", enable_idempotence=True) as producer:
            for partition in range(3):
                await producer.send_and_wait("essays", b"before", partition=partition)
            await asyncio.to_thread(kafka.kill_node, 1)
            for partition in range(3):
                await producer.send_and_wait("essays", b"after", partition=partition)
        await asyncio.to_thread(kafka.start_node, 1)

        ports = [int(address.rpartition(":")[2]) for address in kafka.address.split(",")]
        assert brokers_known_to("127.0.0.1", ports[1]) == set(ports)
        async with AIOKafkaConsumer(
            "essays",
            bootstrap_servers=kafka.address.split(",")[1],
            auto_offset_reset="earliest",
        ) as consumer:
            found = [(await consumer.getone()).value for _ in range(6)]
        assert sorted(found) == [b"after"] * 3 + [b"before"] * 3
