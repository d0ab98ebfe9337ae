"""Events that are made without a correlation id leave with that of what is running."""

import asyncio
import json
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

import pytest

from common_core import EventEnvelope
from huleedu_service_libs._correlation import correlated, running_correlation_id
from huleedu_service_libs.kafka.messages import encode_message
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.logging_utils import log_context
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.payload import row_of
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.protocols import KafkaPublisherProtocol
from huleedu_service_libs.resilience import CircuitBreaker

RUNNING = uuid4()


def an_event(**given: Any) -> EventEnvelope[Any]:
    """An event."""
    return EventEnvelope(event_type="t.v1", source_service="s", data={"n": 1}, **given)


async def test_the_outbox_stores_the_running_id() -> None:
    """Inside a request or handler an event without an id of its own is stored with the running one; nothing else changes."""
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    event = an_event()
    with log_context(correlation_id=str(RUNNING)):
        await OutboxManager(repository, None, "s").publish_to_outbox("a", "1", "t.v1", event, "topic")
        many = row_of(
            NewEvent(aggregate_type="a", aggregate_id="1", event_type="t.v1", event_data=event, topic="topic")
        )
    stored = repository.add_event.await_args.kwargs["event_data"]
    assert stored["correlation_id"] == many.event_data["correlation_id"] == str(RUNNING)
    assert stored["event_id"] == str(event.event_id)
    assert event.correlation_id != RUNNING  # the caller's own is left as it is


@pytest.mark.parametrize("given", [UUID(int=7), str(UUID(int=7))])
async def test_an_id_that_was_given_wins(given: Any) -> None:
    """Whoever says which chain an event belongs to is believed, inside a request, too."""
    with log_context(correlation_id=str(RUNNING)):
        assert correlated(an_event(correlation_id=given)).correlation_id == UUID(int=7)


def test_outside_of_everything_an_event_begins_a_chain() -> None:
    """Without a request or an event that is handled it keeps the id that it was made with."""
    event = an_event()
    assert running_correlation_id() is None
    assert correlated(event) is event


def test_an_id_that_is_no_uuid_is_the_same_uuid_everywhere() -> None:
    """What a client sent is mapped as errors map it; what cannot stand in a log is not taken."""
    with log_context(correlation_id="order-1"):
        assert correlated(an_event()).correlation_id == uuid5(NAMESPACE_OID, "order-1")
    with log_context(correlation_id="no\nid"):
        assert running_correlation_id() is None


@pytest.mark.parametrize("other", [Mock(), {"correlation_id": None}, "text", KafkaBusConfig()])
def test_what_is_no_envelope_is_passed_on(other: Any) -> None:
    """Doubles and mistakes are somebody else's to judge."""
    with log_context(correlation_id=str(RUNNING)):
        assert correlated(other) is other


async def test_a_bus_sends_the_running_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an event that goes to Kafka without the outbox."""
    sent: list[Any] = []
    bus = KafkaBus(client_id="c", bootstrap_servers="nowhere:1")

    async def take(message: Any) -> None:
        sent.append(json.loads(message.value))

    monkeypatch.setattr(bus, "_send", take)
    monkeypatch.setattr(bus, "_started", True)
    with log_context(correlation_id=str(RUNNING)):
        await bus.publish("topic", an_event())
    assert [body["correlation_id"] for body in sent] == [str(RUNNING)]


async def test_what_waits_for_a_broker_keeps_the_id_of_its_request() -> None:
    """An event that is kept while the broker is away leaves later, when another request runs, with its own id."""
    bus = AsyncMock(spec=KafkaPublisherProtocol)
    bus.publish.side_effect = ConnectionError("away")
    publisher = ResilientKafkaPublisher(bus, CircuitBreaker(name="kafka", failure_threshold=1))
    with log_context(correlation_id=str(RUNNING)), pytest.raises(ConnectionError):
        await publisher.publish("topic", an_event(), "key")
    (kept,) = [message.envelope for message in publisher.fallback_handler.waiting()]
    with log_context(correlation_id=str(uuid4())):
        message = encode_message("topic", correlated(kept), None, None, {}, limit=1000)
    assert json.loads(message.value)["correlation_id"] == str(RUNNING)
    await asyncio.sleep(0)
