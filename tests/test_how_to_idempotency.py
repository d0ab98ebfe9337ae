"""The pages on idempotency and the inbox are as true as the code: their snippets run, and the tests that they name exist."""

import asyncio
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from alembic import op
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.idempotency_v2.window import DedupeWindowError
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory
from libs.huleedu_service_libs.tests.waiting import until
from tests.snippets import names_of

ROOT = Path(__file__).resolve().parent.parent
CONCEPT = ROOT / "docs" / "concepts" / "idempotency.md"
HOW_TO = ROOT / "docs" / "how-to" / "handle-each-event-once.md"
PITFALLS = ROOT / "docs" / "concepts" / "idempotency-pitfalls.md"
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", PITFALLS.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_test_that_is_named_is_there(path: str, name: str) -> None:
    """A promise whose test was renamed or removed is no promise."""
    source = (ROOT / "libs/huleedu_service_libs/tests" / path).read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", source, flags=re.MULTILINE)


def _upgrade(connection: Connection, names: dict[str, Any]) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        names["upgrade"]()


@pytest.fixture(name="names")
def _names() -> dict[str, Any]:
    return names_of(HOW_TO, op=op)


@pytest.fixture(name="engine")
async def _engine(postgres_database: str, names: dict[str, Any]) -> AsyncIterator[AsyncEngine]:
    """A database with the table that the page's revision makes, and one for the effects of the page's handlers."""
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(_upgrade, names)
        await connection.execute(text("CREATE TABLE invoice_lines (essay text)"))
    yield engine
    await engine.dispose()


async def _lines(engine: AsyncEngine) -> list[str]:
    async with engine.connect() as connection:
        return sorted((await connection.execute(text("SELECT essay FROM invoice_lines"))).scalars())


@pytest.mark.integration
async def test_the_handler_of_the_page(engine: AsyncEngine, names: dict[str, Any], redis_url: str) -> None:
    """Decorated as on the page a handler has one effect, with Redis in front and without."""
    sessions = async_sessionmaker(engine)
    event_id = str(uuid4()).encode()
    headers = [("event_id", event_id), ("event_type", b"huleedu.essay.archived.v1")]
    message = SimpleNamespace(value=b"{}", headers=headers, topic="t", partition=0, offset=0, key=b"essay-1")
    async with RedisClient(client_id="page", redis_url=redis_url) as redis:
        assert await names["make_handler"](sessions, redis)(message) is True
        assert await names["make_handler"](sessions, redis)(message) is None
    assert await names["make_handler"](sessions, None)(message) is None
    assert await _lines(engine) == ["essay-1"]


@pytest.mark.integration
async def test_the_consumer_of_the_page(
    engine: AsyncEngine, names: dict[str, Any], real_kafka: KafkaServer, kafka_topic: TopicFactory
) -> None:
    """With the step each event that was sent twice has one effect."""
    topic = kafka_topic("archived")
    producer = AIOKafkaProducer(bootstrap_servers=real_kafka.address)
    await producer.start()
    for number in range(20):
        envelope = EventEnvelope[Any](
            event_type="huleedu.essay.archived.v1",
            source_service="t",
            correlation_id=uuid4(),
            data=names["Archived"](essay=f"essay-{number:02}"),
        )
        for _ in range(2):
            await producer.send(topic, envelope.model_dump_json().encode(), key=b"%d" % number)
    await producer.stop()
    sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
    async with names["make_consumer"](real_kafka.address, topic, sessions) as consumer:
        async with asyncio.timeout(40):
            while len(await _lines(engine)) < 20:
                await asyncio.sleep(0.05)
        await until(lambda: not any(consumer.status().lag.values()))
    assert await _lines(engine) == [f"essay-{number:02}" for number in range(20)]


@pytest.mark.integration
async def test_the_watch_of_the_page(real_kafka: KafkaServer, kafka_topic: TopicFactory, redis_url: str) -> None:
    """A service that starts as on the page watches Redis, and refuses a topic that keeps events for longer."""
    names, topic = names_of(CONCEPT, op=op), kafka_topic("window")
    async with RedisClient(client_id="page", redis_url=redis_url) as redis:
        async with names["watched"](redis, real_kafka.address, topic) as watch:
            assert watch.status.healthy
        admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
        await admin.start()
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"retention.ms": "-1"})])
        await admin.close()
        with pytest.raises(DedupeWindowError, match="keeps events for ever") as caught:
            async with names["watched"](redis, real_kafka.address, topic):
                pass
    assert caught.value.shortfalls[0].retention_s == math.inf
