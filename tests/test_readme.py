"""The README's example and its links are as true as the code."""

import ast
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from common_core import EventEnvelope
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox import EventRelayWorker, OutboxManager, OutboxSettings, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.models import Base as OutboxBase
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("libs/*/*.md"), *ROOT.glob("examples/*/*.md")]
)


class Base(DeclarativeBase):
    """The business tables of the example."""


class Essay(Base):
    """The README's row."""

    __tablename__ = "essays"
    id: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]


def _example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    return str(block)


async def _run(code: str, names: dict[str, Any]) -> None:
    compiled = compile(code, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await eval(compiled, names)  # noqa: S307  # the README of this repository


@pytest.mark.integration
async def test_the_example_of_the_readme(
    postgres_database: str,
    redis_url: str,
    real_kafka: object,
    kafka_bootstrap_servers: str,
    kafka_topic: TopicFactory,
) -> None:
    """The ten lines run as they stand, the event arrives on Kafka, and its handler runs once for two deliveries."""
    topic = kafka_topic("readme")
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(OutboxBase.metadata.create_all)
        await connection.run_sync(Base.metadata.create_all)
    checked: list[str] = []
    repository = PostgreSQLOutboxRepository(engine, "intake")
    async with (
        RedisClient(client_id="readme", redis_url=redis_url) as redis,
        KafkaBus(client_id="readme", bootstrap_servers=kafka_bootstrap_servers) as bus,
    ):
        relay = EventRelayWorker(repository, bus, OutboxSettings(), service_name="intake", redis_client=redis)
        await relay.start()
        names: dict[str, Any] = {
            "AsyncSession": AsyncSession,
            "Essay": Essay,
            "EventEnvelope": EventEnvelope,
            "IdempotencyConfig": IdempotencyConfig,
            "checked": checked,
            "engine": engine,
            "idempotent_consumer": idempotent_consumer,
            "json": json,
            "outbox": OutboxManager(repository, redis, "intake"),
            "redis": redis,
            "topic": topic,
        }
        await _run(_example(), names)
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka_bootstrap_servers, auto_offset_reset="earliest")
        await consumer.start()
        try:
            async with asyncio.timeout(20):
                message = await consumer.getone()
        finally:
            await consumer.stop()
        assert [await names["handle"](message), await names["handle"](message)] == [True, None]
        await relay.stop()
    await engine.dispose()
    assert checked == ["essay-1"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file that exists."""
    targets = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_names_both_commands() -> None:
    """The first screen shows what to run, and `make` knows it."""
    first_screen = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("demo", "test", "demo-web"):
        assert any(f"make {command}" in line for line in first_screen)
        assert re.search(rf"^{command}:.*## ", makefile, flags=re.MULTILINE)
