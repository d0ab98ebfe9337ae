"""Single events: what arrives, and which errors the caller sees."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from pydantic import BaseModel
from structlog.testing import capture_logs

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.encoding import encode_envelope
from huleedu_service_libs.kafka_client import (
    EnvelopeEncodingError,
    InvalidMessageError,
    InvalidTopicError,
    KafkaBus,
    KafkaBusConfig,
    KafkaPublishError,
    MessageTooLargeError,
    PublishTimeoutError,
)
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

pytestmark = pytest.mark.integration


class _Essay(BaseModel):
    title: str


def _event(**data: Any) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="test", data=data)


async def test_an_event_arrives_as_it_was(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """Body, key and headers arrive; Swedish text stays readable on the wire."""
    topic = kafka_topic()
    envelope: EventEnvelope[_Essay] = EventEnvelope(
        event_type="essay.v1", source_service="test", data=_Essay(title="Sjön där räven bor")
    )
    await bus.publish(topic, envelope, key="elev-å", headers={"event_type": "essay.v1", "namn": "Åsa"})
    (record,) = await read_back(topic)
    assert record.key == "elev-å".encode()
    assert record.headers == (("event_type", b"essay.v1"), ("namn", "Åsa".encode()))
    assert "Sjön där räven bor".encode() in record.value
    assert json.loads(record.value) == envelope.model_dump(mode="json")
    assert record.value == encode_envelope(envelope)


async def test_no_key_and_no_headers(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """An empty key is no key; `publish_event` is the same method by another name."""
    topic = kafka_topic()
    await bus.publish(topic, _event(), key="", headers={})
    await bus.publish_event(topic, _event())
    assert [(record.key, record.headers) for record in await read_back(topic)] == [(None, ())] * 2


async def test_dead_letters_through_the_producer(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """The producer takes text keys (or none) and a body that is JSON already, and does not encode it twice."""
    topic = kafka_topic()
    for key in ("nyckel", None):
        future = await bus.producer.send(topic=topic, key=key, value='{"fel": "å"}', headers={})
        await future
    await bus.producer.send_and_wait(topic, {"n": 1})
    records = await read_back(topic)
    assert [record.key for record in records] == [b"nyckel", None, None]
    assert [json.loads(record.value) for record in records] == [{"fel": "å"}, {"fel": "å"}, {"n": 1}]


@pytest.mark.parametrize("topic", ["", ".", "..", "två", "a b", "a/b", "a\n", "x" * 250])
async def test_illegal_topic_names_are_refused(topic: str) -> None:
    """A name that no broker accepts fails at once, before anything is started."""
    bus = KafkaBus(client_id="names", bootstrap_servers="nowhere.invalid:1")
    with pytest.raises(InvalidTopicError) as caught:
        await bus.publish(topic, _event())
    assert caught.value.topic == topic


async def test_unencodable_events_are_refused() -> None:
    """The error names the event's type, and one line is logged."""
    bus = KafkaBus(client_id="codec", bootstrap_servers="nowhere.invalid:1")
    with capture_logs() as logs, pytest.raises(EnvelopeEncodingError, match=r"essay\.v1") as caught:
        await bus.publish("t", _event(x=object()))
    assert caught.value.event_type == "essay.v1"
    assert [entry["log_level"] for entry in logs] == ["error"]
    with pytest.raises(EnvelopeEncodingError):
        await bus.publish("t", _event(x="\ud800"))


async def test_keys_and_headers_must_be_text() -> None:
    """Anything else is refused with the topic's name instead of an error deep in the driver."""
    bus = KafkaBus(client_id="types", bootstrap_servers="nowhere.invalid:1")
    with pytest.raises(InvalidMessageError, match="'t'"):
        await bus.publish("t", _event(), headers={"n": 1})  # type: ignore[dict-item]


def test_numbers_without_json_form_become_null() -> None:
    """NaN and infinities are null on the wire; integers of any size are kept."""
    body = json.loads(encode_envelope(_event(nan=float("nan"), inf=float("inf"), big=2**80)))
    assert body["data"] == {"nan": None, "inf": None, "big": 2**80}


async def test_too_large_events_are_refused_with_their_size() -> None:
    """The error says how large the event is and how large it may be, and belongs to our root."""
    config = KafkaBusConfig(max_request_size=1_000, batch_size=500)
    bus = KafkaBus(client_id="size", bootstrap_servers="nowhere.invalid:1", config=config)
    with pytest.raises(MessageTooLargeError, match="max_request_size=1000") as caught:
        await bus.publish("t", _event(text="x" * 1_000))
    assert caught.value.limit == 1_000 < caught.value.size
    assert isinstance(caught.value, KafkaPublishError)


async def test_a_refusal_by_the_broker_passes_unchanged_and_breaks_nothing(
    bus: KafkaBus, limited_topic: Any, read_back: Any
) -> None:
    """The broker's own error reaches the caller, and the next event of the partition goes out: the producer heals."""
    topic = await limited_topic(2_000)
    await bus.publish(topic, _event(n=1), key="k")
    with pytest.raises(MessageSizeTooLargeError):
        await bus.publish(topic, _event(text="x" * 5_000), key="k")
    await bus.publish(topic, _event(n=2), key="k")
    assert [json.loads(record.value)["data"] for record in await read_back(topic)] == [{"n": 1}, {"n": 2}]


async def test_a_producer_out_of_step_is_replaced(bus: KafkaBus, kafka_topic: TopicFactory, read_back: Any) -> None:
    """A gap in the sequence numbers, which the broker refuses for ever, costs the caller nothing."""
    topic = kafka_topic()
    await bus.publish(topic, _event(n=1), key="k")
    broken = bus.producer
    manager = broken._txn_manager
    for partition in list(manager._sequence_numbers):
        manager.increment_sequence_number(partition, 10)
    await bus.publish(topic, _event(n=2), key="k")
    assert bus.producer is not broken
    assert [json.loads(record.value)["data"] for record in await read_back(topic)] == [{"n": 1}, {"n": 2}]


async def test_unknown_topics_do_not_wait_for_ever(real_kafka: KafkaServer, unique_name: str) -> None:
    """Where the broker creates no topics, the wait for one is bounded."""
    config = KafkaBusConfig(request_timeout_s=0.5, publish_timeout_s=1)
    async with KafkaBus(client_id="patient", bootstrap_servers=real_kafka.address, config=config) as bus:
        # Whatever the broker does about unknown topics, this one never appears
        bus.producer.client.add_topic = lambda _topic: asyncio.get_running_loop().create_future()
        bus.producer.client.force_metadata_update = lambda: asyncio.get_running_loop().create_future()
        with pytest.raises(PublishTimeoutError) as caught:
            await bus.publish(f"{unique_name}-missing", _event())
    assert caught.value.timeout_s == 1
    assert isinstance(caught.value, TimeoutError)
