"""The page on consuming is as true as the code: its snippets run on real servers."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "consume-events.md"


def _names() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(snippet, str(PAGE), "exec"), names)  # noqa: S102  # a page of this repository
    return names


@pytest.mark.integration
async def test_the_consumer_of_the_page(real_kafka: KafkaServer, redis_url: str, kafka_topic: TopicFactory) -> None:
    """Its handler gets the typed event once, and a redrive of the empty dead-letter topic ends at once."""
    names = _names()
    topic = kafka_topic("completed")
    results: dict[str, int] = {}
    event: EventEnvelope[Any] = EventEnvelope(
        event_type="huleedu.essay.spellcheck.completed.v1",
        source_service="test",
        data={"essay_id": topic, "misspellings": 3},
    )
    async with (
        KafkaBus(client_id="test", bootstrap_servers=real_kafka.address) as bus,
        RedisClient(client_id="test", redis_url=redis_url) as redis,
        names["make_consumer"](real_kafka.address, topic, redis, bus, results) as consumer,
    ):
        await bus.publish(topic, event, key=topic)
        async with asyncio.timeout(20):
            while not results:
                await asyncio.sleep(0.02)
        report = await names["send_back"](real_kafka.address, topic, bus)
        assert consumer.status().alive()
    assert results == {topic: 3}
    assert (report.redriven, report.finished) == (0, True)
