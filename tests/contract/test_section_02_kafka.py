"""Section 2: Kafka. Bus, resilient publisher, fallback queue."""

from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.resilience import CircuitBreaker
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
class kafka_client:KafkaBus(*, client_id, bootstrap_servers=...)
async kafka_client:KafkaBus.start()
async kafka_client:KafkaBus.stop()
async kafka_client:KafkaBus.publish(topic, envelope, key=None, headers=None)
async kafka_client:KafkaBus.publish_event(topic, envelope, key=None, headers=None)
class kafka.resilient_kafka_bus:ResilientKafkaPublisher(delegate, circuit_breaker=None, fallback_handler=None, retry_interval=...)
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.start()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.stop()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher.publish(topic, envelope, key=None, headers=None)
def kafka.resilient_kafka_bus:ResilientKafkaPublisher.get_fallback_queue_size()
def kafka.resilient_kafka_bus:ResilientKafkaPublisher.get_circuit_breaker_state()
async kafka.resilient_kafka_bus:ResilientKafkaPublisher._process_queued_messages()
class kafka.fallback_handler:QueuedMessage(topic, envelope, key, queued_at, retry_count=0, headers=None)
class kafka.fallback_handler:FallbackMessageHandler(max_queue_size=1000, retry_interval=30, max_retries=5)
async kafka.fallback_handler:FallbackMessageHandler.queue_message(message)
async kafka.fallback_handler:FallbackMessageHandler.get_next_message()
def kafka.fallback_handler:FallbackMessageHandler.has_queued_messages()
def kafka.fallback_handler:FallbackMessageHandler.queue_size()
async kafka.fallback_handler:FallbackMessageHandler.clear_queue()
def kafka.fallback_handler:FallbackMessageHandler.get_metrics()
def kafka.fallback_handler:FallbackMessageHandler.is_message_expired(message, max_age_seconds=3600)
async kafka.fallback_handler:FallbackMessageHandler.cleanup_expired_messages(max_age_seconds=3600)
"""


@pytest.mark.parametrize("wanted", lines("02 Kafka", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _envelope() -> EventEnvelope[Any]:
    return EventEnvelope(event_type="t", source_service="s", data={})


def test_a_bus_has_what_it_was_given() -> None:
    """Client id and addresses can be read; nothing is connected by construction."""
    bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere:1")
    assert (bus.client_id, bus.bootstrap_servers, bus._started) == ("svc", "nowhere:1", False)
    assert KafkaBus(client_id="svc").bootstrap_servers


async def test_start_and_stop_of_the_class_can_be_patched() -> None:
    """Tests of dependency injection patch both on the class and run the real constructor."""
    with (
        patch.object(KafkaBus, "start", new_callable=AsyncMock) as start,
        patch.object(KafkaBus, "stop", new_callable=AsyncMock) as stop,
    ):
        publisher = ResilientKafkaPublisher(KafkaBus(client_id="svc"))
        await publisher.start()
        await publisher.stop()
    start.assert_awaited_once_with()
    stop.assert_awaited_once_with()


def test_attributes_of_the_resilient_publisher() -> None:
    """A wrapper and no bus, with a queue of a thousand, half a minute between looks, and the delegate's names."""
    bus, breaker = KafkaBus(client_id="svc", bootstrap_servers="b:1"), CircuitBreaker()
    publisher = ResilientKafkaPublisher(bus, breaker)
    assert KafkaBus not in type(publisher).__mro__
    assert (publisher.delegate, publisher.circuit_breaker) == (bus, breaker)
    assert (publisher.client_id, publisher.bootstrap_servers) == ("svc", "b:1")
    assert (publisher.retry_interval, publisher.fallback_handler.get_metrics()["max_queue_size"]) == (30, 1000)
    assert ResilientKafkaPublisher(bus).get_circuit_breaker_state() == {"enabled": False}
    state = {**breaker.get_state(), "enabled": True, "fallback_queue_size": 0}
    assert publisher.get_circuit_breaker_state() == state


async def test_four_arguments_go_to_the_delegate() -> None:
    """Topic, envelope, key and headers by position, the last None when it is absent."""
    bus, event = AsyncMock(spec=KafkaBus), _envelope()
    await ResilientKafkaPublisher(bus).publish("t", event, "k")
    bus.publish.assert_called_once_with("t", event, "k", None)


async def test_figures_of_the_fallback_queue() -> None:
    """The figures have six names; a full queue says that it is full."""
    queue = FallbackMessageHandler(max_queue_size=1)
    await queue.queue_message(QueuedMessage("t", _envelope(), None, datetime.now(UTC)))
    assert set(queue.get_metrics()) == {
        "current_queue_size",
        "max_queue_size",
        "total_queued",
        "total_processed",
        "total_dropped",
        "queue_utilization",
    }
    with pytest.raises(Exception, match="Fallback queue is full"):
        await queue.queue_message(QueuedMessage("t", _envelope(), None, datetime.now(UTC)))
    assert (await queue.clear_queue(), await queue.get_next_message()) == (1, None)
