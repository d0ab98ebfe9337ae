"""What is remembered against how long it can come again."""

import math
from collections.abc import Mapping, Sequence

import pytest
import structlog.testing
from prometheus_client import REGISTRY

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.window import (
    DedupeWindowError,
    Remembered,
    RetentionOf,
    check_dedupe_window,
    remembered_by,
)
from huleedu_service_libs.kafka.topic_retention import TopicRetention
from huleedu_service_libs.testing.devstack.servers import KafkaServer

HOUR, DAY = 3600.0, 86_400.0


def _kept(**topics: float) -> RetentionOf:
    async def retention_of(asked: Sequence[str]) -> Mapping[str, float]:
        assert set(asked) <= set(topics)
        return topics

    return retention_of


def test_what_a_config_remembers() -> None:
    """For each topic and type the time to live, and the setting that it comes from."""
    config = IdempotencyConfig("svc", {"a.v1": 60}, default_ttl=120)
    assert remembered_by(config, {"essays": ["a.v1", "b.v1"]}) == [
        Remembered(topic="essays", seconds=60, setting="event_type_ttls['a.v1']"),
        Remembered(topic="essays", seconds=120, setting="default_ttl"),
    ]


async def test_a_window_that_covers_is_silent() -> None:
    """Remembered for as long as retention, retries and redrive together: nothing to say."""
    remembered = [Remembered(topic="t", seconds=8 * DAY + HOUR, setting="s")]
    with structlog.testing.capture_logs() as logs:
        found = await check_dedupe_window(
            remembered, _kept(t=7 * DAY), retry_delay_s=HOUR, redrive_age_s=DAY, on_shortfall="refuse"
        )  # fmt: skip
    assert (found, logs) == ([], [])


async def test_a_shortfall_names_topic_values_and_fix() -> None:
    """The text has the topic, both times, what retries and redrives add, the setting and the value that it needs."""
    remembered = [Remembered(topic="essays", seconds=HOUR, setting="event_type_ttls['a.v1']")]
    with structlog.testing.capture_logs() as logs:
        (found,) = await check_dedupe_window(
            remembered, _kept(essays=7 * DAY), retry_delay_s=600, redrive_age_s=DAY, on_shortfall="warn"
        )  # fmt: skip
    assert str(found) == (
        "Topic 'essays' keeps events for 7 d, retries add 10 min and redrives 1 d, but event_type_ttls['a.v1'] "
        "remembers processed ones for 1 h only: a duplicate after that is processed again. "
        "Fix: raise event_type_ttls['a.v1'] to 691800, or lower the topic's retention.ms"
    )
    assert [entry["problem"] for entry in logs] == [str(found)]
    labels = {"topic": "essays", "setting": "event_type_ttls['a.v1']"}
    assert REGISTRY.get_sample_value("idempotency_window_shortfall_seconds", labels) == 691800 - HOUR


async def test_refusing_names_all_of_them() -> None:
    """With `refuse` the service does not start, and learns of every topic at once."""
    remembered = [Remembered(topic=topic, seconds=HOUR, setting="default_ttl") for topic in ("a", "b", "c")]
    with pytest.raises(DedupeWindowError) as caught:
        await check_dedupe_window(remembered, _kept(a=DAY, b=60, c=math.inf), on_shortfall="refuse")
    assert [shortfall.remembered.topic for shortfall in caught.value.shortfalls] == ["a", "c"]
    first, second = str(caught.value).splitlines()
    assert first.startswith("Topic 'a' keeps events for 1 d, but default_ttl remembers")
    assert "keeps events for ever" in second
    assert "give the topic a retention.ms below 3600000, or make its handlers repeatable" in second


async def test_a_broker_that_does_not_answer() -> None:
    """Warning goes on without it, refusing does not."""

    async def unreachable(_topics: Sequence[str]) -> Mapping[str, float]:
        raise ConnectionError("no broker")

    remembered = [Remembered(topic="t", seconds=1, setting="s")]
    with structlog.testing.capture_logs() as logs:
        assert await check_dedupe_window(remembered, unreachable) == []
    assert [(entry["log_level"], entry["error"]) for entry in logs] == [("warning", "no broker")]
    with pytest.raises(ConnectionError):
        await check_dedupe_window(remembered, unreachable, on_shortfall="refuse")


@pytest.mark.integration
async def test_retention_of_real_topics(real_kafka: KafkaServer, unique_name: str) -> None:
    """The broker's default, a topic's own value, none, and compaction: read from a real broker."""
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # noqa: PLC0415  # only here

    settings = {
        "own": {"retention.ms": "3600000"},
        "endless": {"retention.ms": "-1"},
        "compacted": {"cleanup.policy": "compact"},
        "both": {"cleanup.policy": "compact,delete", "retention.ms": "1000"},
        "default": {},
    }
    admin = AIOKafkaAdminClient(bootstrap_servers=real_kafka.address)
    await admin.start()
    await admin.create_topics(
        [NewTopic(f"{unique_name}-{name}", 1, 1, topic_configs=configs) for name, configs in settings.items()]
    )
    await admin.close()
    found = await TopicRetention(real_kafka.address)([f"{unique_name}-{name}" for name in settings])
    assert {name: found[f"{unique_name}-{name}"] for name in settings} == {
        "own": 3600,
        "endless": math.inf,
        "compacted": math.inf,
        "both": 1,
        "default": 7 * DAY,
    }
    with pytest.raises(Exception, match=f"{unique_name}-unknown"):
        await TopicRetention(real_kafka.address)([f"{unique_name}-unknown"])
