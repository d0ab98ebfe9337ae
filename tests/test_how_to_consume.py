"""The page on consuming is as true as the code: its snippets run on real servers."""

import asyncio
from typing import Any

import pytest

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory
from tests.snippets import DOCS, names_of

PAGE = DOCS / "how-to/consume-events.md"


@pytest.mark.integration
async def test_the_consumer_of_the_page(real_kafka: KafkaServer, redis_url: str, kafka_topic: TopicFactory) -> None:
    """Its handler gets the typed event once, and a redrive of the empty dead-letter topic ends at once."""
    names = names_of(PAGE)
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
