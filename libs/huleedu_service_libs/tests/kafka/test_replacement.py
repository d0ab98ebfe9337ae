"""When the broker fails while something is looked up, replaced or asked: without a broker, on a driver's double."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, MagicMock, patch

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import OutOfOrderSequenceNumber
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig, KafkaUnreachableError, PublishTimeoutError
from huleedu_service_libs.protocols import OutgoingMessage


def _swallowed(client_id: str, operation: str) -> float:
    labels = {"client_id": client_id, "operation": operation}
    return REGISTRY.get_sample_value("huleedu_kafka_client_swallowed_errors_total", labels) or 0.0


def _event() -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="test", data={})


def _bus(client_id: str, producer: Any, **config: Any) -> KafkaBus:
    bus = KafkaBus(client_id=client_id, config=KafkaBusConfig(**config))
    bus.producer = producer
    bus._started = True
    return bus


async def test_a_failing_ping_is_counted() -> None:
    """The answer is False, and the failure stands in log and counter."""
    producer = MagicMock()
    producer.client.fetch_all_metadata = AsyncMock(side_effect=OSError("gone"))
    bus = _bus("ping-fails", producer)
    with capture_logs() as logs:
        assert await bus.ping() is False
    assert [(entry["log_level"], entry["error"]) for entry in logs] == [("error", "OSError: gone")]
    assert _swallowed("ping-fails", "ping") == 1


async def test_a_ping_that_nobody_answers_is_bounded() -> None:
    """A broker that hangs counts as one that fails."""
    producer = MagicMock()
    producer.client.fetch_all_metadata = asyncio.Event().wait
    bus = _bus("ping-hangs", producer, request_timeout_s=0.01)
    assert await asyncio.wait_for(bus.ping(), 15) is False
    assert _swallowed("ping-hangs", "ping") == 1


async def test_a_failed_replacement_leaves_the_caller_the_first_error() -> None:
    """When the new producer finds no broker, the refusal is raised and the failure counted."""
    producer = AsyncMock()
    producer.send_and_wait.side_effect = OutOfOrderSequenceNumber("gap")
    bus = _bus("replace-fails", producer)
    fresh = AsyncMock(**{"start.side_effect": OSError("refused")})
    with patch.object(bus._host, "_build", return_value=fresh), pytest.raises(OutOfOrderSequenceNumber):
        await bus.publish("t", _event())
    fresh.stop.assert_awaited_once()
    assert _swallowed("replace-fails", "replace") == 1
    assert bus.producer is producer


async def test_a_failed_replacement_fails_a_batch_transiently() -> None:
    """In a batch the outcome carries why there is no new producer, and the rest is held back."""
    producer = AsyncMock()
    producer.partitions_for.return_value = {0}
    producer.client = MagicMock()
    producer.client.cluster.available_partitions_for_topic.return_value = {0}
    producer.create_batch = MagicMock()
    producer.create_batch.return_value.append.side_effect = [object(), None]
    producer.send_batch.side_effect = OutOfOrderSequenceNumber("gap")
    bus = _bus("replace-fails", producer)
    fresh = AsyncMock(**{"start.side_effect": OSError("refused")})
    with patch.object(bus._host, "_build", return_value=fresh):
        first, second = await bus.publish_batch([OutgoingMessage(topic="t", value=b"1", key=b"k")] * 2)
    fresh.stop.assert_awaited_once()
    assert isinstance(first.error, KafkaUnreachableError)
    assert (first.transient, first.attempted) == (True, True)
    assert (second.transient, second.attempted) == (True, False)


@pytest.mark.parametrize("error", [OSError("no metadata"), None], ids=["fails", "hangs"])
async def test_a_topic_without_metadata_fails_its_messages_transiently(error: Exception | None) -> None:
    """No partitions known: every message of that topic, and only of that, has an outcome with the reason."""
    producer = MagicMock()
    producer.partitions_for = AsyncMock(side_effect=error) if error else lambda _topic: asyncio.Event().wait()
    bus = _bus("no-metadata", producer, request_timeout_s=0.01, publish_timeout_s=0.02)
    with capture_logs() as logs:
        outcomes = await bus.publish_batch([OutgoingMessage(topic="t", value=b"1")] * 2)
    assert {type(outcome.error) for outcome in outcomes} == {type(error) if error else PublishTimeoutError}
    assert all(outcome.transient for outcome in outcomes)
    assert [(entry["event"], entry["messages"]) for entry in logs] == [("kafka_topic_unknown", 2)]


async def test_a_stop_during_a_replacement_wins() -> None:
    """The producer that was being connected meanwhile is closed again and not used."""
    host = ProducerHost("stopped", "kafka:9092", KafkaBusConfig())
    broken, fresh = AsyncMock(), AsyncMock()
    connecting, go_on = asyncio.Event(), asyncio.Event()

    async def start() -> None:
        connecting.set()
        await go_on.wait()

    fresh.start = start
    host.current = broken
    with patch.object(host, "_build", return_value=fresh):
        replacing = asyncio.create_task(host.replace(broken, reason="test"))
        await connecting.wait()
        await host.stop()
        go_on.set()
        await replacing
    broken.stop.assert_awaited_once()
    fresh.stop.assert_awaited_once()
    assert host._current is None


async def test_an_unanswered_look_up_is_paced() -> None:
    """After each look-up that no broker answered some time passes, after an answered one none."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    host = ProducerHost("paced", "kafka:9092", KafkaBusConfig(), sleep=sleep)
    with patch.object(AIOKafkaClient, "_metadata_update", AsyncMock(side_effect=[False, False, True])):
        paced = host.current.client._metadata_update
        assert [await paced(None, []) for _ in range(3)] == [False, False, True]
    assert slept == [0.25, 0.25]
    await host.stop()
