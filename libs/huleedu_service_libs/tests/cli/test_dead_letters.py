"""``huleedu dead-letters`` against a real Kafka: what the commands print, send, and end with."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from huleedu_service_libs.cli.main import main
from huleedu_service_libs.kafka.consumer.dead_letters import read_dead_letters
from huleedu_service_libs.kafka.consumer.letters import letter, trail_of
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

pytestmark = pytest.mark.integration

Texts = pytest.CaptureFixture[str]
Run = Callable[..., int]


class Failed:
    """A record that could not be processed."""

    def __init__(self, topic: str, number: int) -> None:
        self.topic, self.partition, self.offset, self.timestamp = topic, 0, number, 1_700_000_000_000
        self.key = b"key-%d" % number
        self.value = b'{"number": %d}' % number
        self.headers = [("event_id", b"id-%d" % number), ("event_type", b"essay.v1")]


@pytest.fixture(name="topic")
def _topic(kafka_topic: TopicFactory, real_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic whose dead letters, in another topic, are three."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", real_kafka.address)
    origin, dead = kafka_topic("essays"), kafka_topic("dead")
    made = []
    for number in range(3):
        record = Failed(origin, number)
        trail = trail_of(record, from_retry_topic=False).after(RuntimeError(f"broken {number}"), at="2026-01-31T08:00Z")
        made.append(letter(record, trail, topic=dead, group="results", reason="failed"))

    async def fill() -> None:
        async with KafkaBus(client_id="test", bootstrap_servers=real_kafka.address) as bus:
            assert all(outcome.acknowledged for outcome in await bus.publish_batch(made))

    asyncio.run(fill())
    return dead


def test_they_are_listed_and_shown(topic: str, capsys: Texts) -> None:
    """A table for people, JSON for programs, one of them in full with its failures and its own headers."""
    assert main(["dead-letters", "list", topic]) == 0
    table = capsys.readouterr().out
    assert "RuntimeError: broken 1" in table
    assert main(["dead-letters", "list", topic, "--key", "key-1", "--json"]) == 0
    (only,) = json.loads(capsys.readouterr().out)
    assert (only["event_id"], only["attempts"], only["group"], only["place"]) == ("id-1", 1, "results", "0:1")
    assert main(["dead-letters", "show", topic, "0:1"]) == 0
    shown = capsys.readouterr().out
    assert "2026-01-31T08:00Z RuntimeError: broken 1" in shown
    assert '{"number": 1}' in shown
    assert "header event type" in shown


def test_a_redrive_is_a_dry_run_unless_applied(topic: str, capsys: Texts, real_kafka: KafkaServer) -> None:
    """First it tells what would go back; with --apply (or --yes, as `huleedu outbox` has it) the chosen go, once, without the headers about failures."""
    assert main(["dead-letters", "redrive", topic, "--all"]) == 0
    assert "3 would go back" in capsys.readouterr().out
    assert main(["dead-letters", "redrive", topic, "--id", "id-2", "--apply"]) == 0
    assert "1 went back" in (said := capsys.readouterr().out)
    assert "2 passed over" in said
    assert main(["dead-letters", "redrive", topic, "--id", "id-2", "--yes", "--json"]) == 0
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (report["redriven"], report["finished"]) == (0, True)
    assert main(["dead-letters", "redrive", topic, "--all", "--apply", "--group", f"{topic}.again"]) == 0
    assert "3 went back" in capsys.readouterr().out
    origin = asyncio.run(origin_of(topic, real_kafka.address))
    back = asyncio.run(everything(origin, real_kafka.address))
    assert [record.value for record in back] == [b'{"number": %d}' % n for n in (2, 0, 1, 2)]
    assert all(not name.startswith("failure_") for record in back for name, _ in record.headers)


async def origin_of(topic: str, servers: str) -> str:
    """Where the first dead letter came from."""
    (origin,) = {each.origin async for each, _ in read_dead_letters(topic, bootstrap_servers=servers)}
    return origin


async def everything(topic: str, servers: str) -> list[Any]:
    """All records of a topic."""
    return [record async for _, record in read_dead_letters(topic, bootstrap_servers=servers)]


def test_what_cannot_be_is_told(topic: str, capsys: Texts) -> None:
    """No choice, no such record, no such topic and no broker each have their exit code and say what to do."""
    assert main(["dead-letters", "redrive", topic]) == 2
    assert "--all" in capsys.readouterr().err
    assert main(["dead-letters", "show", topic, "0:99"]) == 4
    assert "0:99" in capsys.readouterr().err
    assert main(["dead-letters", "list", f"{topic}-nowhere"]) == 4
    assert "There is no topic" in capsys.readouterr().err
    assert main(["dead-letters", "list", topic, "--bootstrap-servers", "127.0.0.1:9"]) == 3
    assert "127.0.0.1:9" in capsys.readouterr().err
