"""The page on moving in is as true as the code: its snippet runs, and the tests and commands that it names exist."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from typer.testing import CliRunner

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.cli.main import app
from huleedu_service_libs.inbox.models import Base
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory
from libs.huleedu_service_libs.tests.databases import engine_with
from libs.huleedu_service_libs.tests.moving_in.earlier import EarlierWorker
from libs.huleedu_service_libs.tests.topics import read_all

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/how-to/move-from-the-earlier-library.md").read_text(encoding="utf-8")
TESTS = ROOT / "libs/huleedu_service_libs/tests/moving_in"
NAMED = sorted(set(re.findall(r"`(test_\w+)`", PAGE)))
COMMANDS = sorted(set(re.findall(r"`huleedu ([a-z -]+[a-z])`", PAGE)))
SOURCES = {path.name: path.read_text(encoding="utf-8") for path in sorted(TESTS.glob("test_*.py"))}


@pytest.mark.parametrize("name", NAMED)
def test_each_test_that_is_named_is_there(name: str) -> None:
    """A promise whose test was renamed or removed is no promise."""
    assert any(re.search(rf"^async def {name}\(", source, flags=re.MULTILINE) for source in SOURCES.values())


def test_each_limit_that_is_tested_is_told() -> None:
    """What a test shows to be beyond any promise stands on the page."""
    shown = {
        name
        for source in SOURCES.values()
        for name in re.findall(r"^async def (test_no_promise_\w+)", source, re.MULTILINE)
    }
    assert len(shown) == 4
    assert shown <= set(NAMED)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_that_is_named_is_there(command: str) -> None:
    """The page names no command that the program lacks."""
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0, result.output


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    async with engine_with(Base.metadata, postgres_database) as engine:
        yield engine


@pytest.mark.integration
async def test_the_consumer_of_the_page_leaves_the_way_back_open(
    engine: AsyncEngine, real_kafka: KafkaServer, redis_url: str, kafka_topic: TopicFactory, unique_name: str
) -> None:
    """It handles a doubled event once, and an earlier worker on the same Redis knows it for done."""
    names: dict[str, Any] = {}
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(snippet, "page", "exec"), names)  # noqa: S102  # a page of this repository
    topic, archived = kafka_topic("archived"), list[str]()
    first, second = (_archived(essay) for essay in ("one", "two"))

    async def archive(essay_id: str, session: Any) -> None:
        assert session.in_transaction()
        archived.append(essay_id)

    async with (
        KafkaBus(client_id="test", bootstrap_servers=real_kafka.address) as bus,
        RedisClient(client_id="test", redis_url=redis_url) as redis,
        Redis.from_url(redis_url, decode_responses=True) as driver,
    ):
        for event in (first, first, second):
            await bus.publish(topic, event, key="k")
        sessions = async_sessionmaker(engine)
        async with names["make_consumer"](real_kafka.address, topic, unique_name, redis, sessions, bus, archive):
            async with asyncio.timeout(60):
                while "two" not in archived:
                    await asyncio.sleep(0.02)
        record, *_ = await read_all(real_kafka.address, topic)
        assert await EarlierWorker(driver, unique_name).deliver(record, _must_not_run) is None
    assert archived == ["one", "two"]


def _archived(essay_id: str) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="huleedu.essay.archived.v1", source_service="s", data={"essay_id": essay_id})


async def _must_not_run(_confirm: Any) -> None:
    raise AssertionError("the event is done")
