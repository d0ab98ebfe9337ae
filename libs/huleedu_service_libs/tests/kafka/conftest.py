"""A started bus on the session's Kafka, and a way to read a topic back."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.testing.devstack.servers import KafkaServer

from ..topics import read_all

ReadBack = Callable[[str], Awaitable[list[Any]]]
LimitedTopic = Callable[..., Awaitable[str]]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    """Where a journal may be written."""
    return tmp_path / "waiting.jsonl"


@pytest.fixture(name="bus")
async def _bus(real_kafka: KafkaServer) -> AsyncIterator[KafkaBus]:
    async with KafkaBus(client_id="test", bootstrap_servers=real_kafka.address) as bus:
        yield bus


@pytest.fixture(name="read_back")
def _read_back(real_kafka: KafkaServer) -> ReadBack:
    """Everything that a topic holds, partition by partition, each in order."""
    return partial(read_all, real_kafka.address)


@pytest.fixture(name="limited_topic")
def _limited_topic(real_kafka: KafkaServer, unique_name: str) -> LimitedTopic:
    """Creates a topic whose broker refuses what is larger than ``max_message_bytes``."""

    async def create(max_message_bytes: int, partitions: int = 1) -> str:
        admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
        await admin.start()
        try:
            limits = {"max.message.bytes": str(max_message_bytes)}
            await admin.create_topics([NewTopic(unique_name, partitions, 1, topic_configs=limits)])
        finally:
            await admin.close()
        return unique_name

    return create
