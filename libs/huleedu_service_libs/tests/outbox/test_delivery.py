"""Senders: what becomes of each event of a batch, and the order within a key."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from aiokafka import errors
from aiokafka.errors import KafkaConnectionError
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from huleedu_service_libs.kafka.errors import (
    EnvelopeEncodingError,
    InvalidTopicError,
    KafkaBusStoppedError,
    MessageTooLargeError,
)
from huleedu_service_libs.observability.links import MOST_LINKS
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.outbox import delivery
from huleedu_service_libs.outbox.delivery import BatchSender, OneByOneSender, sender_for
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

from .doubles import BatchingPublisher, Event, Publisher


def test_the_sender_fits_the_publisher() -> None:
    """A publisher whose class takes batches gets them; any other gets single envelopes."""
    assert isinstance(sender_for(BatchingPublisher(), "svc"), BatchSender)
    assert isinstance(sender_for(Publisher(), "svc"), OneByOneSender)


OUTAGES = [
    errors.KafkaConnectionError(),
    errors.KafkaTimeoutError(),
    errors.ProducerClosed(),
    errors.OutOfOrderSequenceNumber(),
    errors.ProducerFenced(),
    errors.UnknownProducerId(),
    errors.TopicAuthorizationFailedError(),
    errors.NotLeaderForPartitionError(),
    errors.NotEnoughReplicasError(),
    KafkaBusStoppedError("client", "topic"),
    TimeoutError(),
    ConnectionRefusedError(),
]
POISON = [
    errors.MessageSizeTooLargeError(),
    errors.RecordListTooLargeError(),
    errors.KafkaError("says nothing"),
    MessageTooLargeError("topic", size=2, limit=1),
    EnvelopeEncodingError("e.v1", "no"),
    InvalidTopicError("no topic"),
    RuntimeError(),
    ValueError(),
]


@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_outages_lie_outside_the_event(error: Exception) -> None:
    """Connections, leaders, timeouts, rights and the producer's own state count for no event."""
    assert is_outage(error)


@pytest.mark.parametrize("error", POISON, ids=lambda error: type(error).__name__)
def test_poison_lies_in_the_event(error: Exception) -> None:
    """A refused content, and whatever nobody can name, is counted."""
    assert not is_outage(error)


async def test_a_key_that_changes_topic_waits_for_the_next_batch() -> None:
    """Two topics are written at once, so only the events of a key before the change go out together."""
    publisher = BatchingPublisher()
    events = [Event(topic="a"), Event(topic="b"), Event(topic="a"), Event(topic="b", event_key="other")]
    outcomes = await BatchSender(publisher, "svc").deliver(events)
    assert [outcome.acknowledged for outcome in outcomes] == [True, False, False, True]
    assert [message.topic for message in publisher.batches[0]] == ["a", "b"]


async def test_an_event_that_cannot_be_encoded_fails_alone() -> None:
    """It is poison; later events of its key are held back, other keys go."""
    events = [
        Event(event_data={"data": "\ud800"}),
        Event(event_data={"data": 1}),
        Event(event_key="other", event_data={"data": 2}),
    ]
    outcomes = await BatchSender(BatchingPublisher(), "svc").deliver(events)
    assert [(outcome.acknowledged, outcome.attempted, outcome.transient) for outcome in outcomes] == [
        (False, True, False),
        (False, False, False),
        (True, True, False),
    ]


async def test_a_publisher_that_raises_is_an_outage() -> None:
    """The port raises for no message, so whatever it raises burns no attempt."""

    class Broken(BatchingPublisher):
        async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
            raise RuntimeError("fatal")

    outcomes = await BatchSender(Broken(), "svc").deliver([Event()])
    assert [outcome.transient for outcome in outcomes] == [True]


@pytest.fixture(name="spans")
def _spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(delivery, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def _traced(number: int, **changes: Any) -> Event:
    parent = f"00-{number:032x}-{number:016x}-01"
    return Event(event_data={"data": {}, "metadata": {"traceparent": parent}}, **changes)


async def test_a_batch_is_a_span_with_links_to_the_traces_of_its_events(spans: InMemorySpanExporter) -> None:
    """One span whatever the number of events, each trace linked once; what was not acknowledged is counted."""
    publisher = BatchingPublisher()
    publisher.poison.add(b"bad")
    events = [_traced(1), _traced(2), _traced(2), Event(), _traced(3, event_key="bad")]
    await BatchSender(publisher, "svc").deliver(events)
    (span,) = spans.get_finished_spans()
    assert [link.context.trace_id for link in span.links] == [1, 2, 3]
    assert span.attributes is not None
    assert span.attributes["messaging.batch.message_count"] == 5
    assert span.attributes["huleedu.outbox.unacknowledged"] == 1


async def test_links_have_a_limit(spans: InMemorySpanExporter) -> None:
    """A batch from a thousand traces links as many of them as a span may."""
    await BatchSender(BatchingPublisher(), "svc").deliver([_traced(number + 1) for number in range(1000)])
    assert len(spans.get_finished_spans()[0].links) == MOST_LINKS


async def test_a_single_envelope_is_a_span_with_its_link(spans: InMemorySpanExporter) -> None:
    """A failure is recorded on it."""
    publisher = Publisher()
    publisher.errors["bad"] = ValueError("no")
    await OneByOneSender(publisher, "svc").deliver([_traced(7), _traced(8, event_key="bad")])
    good, bad = spans.get_finished_spans()
    assert [link.context.trace_id for span in (good, bad) for link in span.links] == [7, 8]
    assert (good.status.is_ok, bad.status.is_ok) == (True, False)


async def test_a_batch_that_takes_too_long_is_made_smaller_until_it_is_done() -> None:
    """A publisher of one message each ten milliseconds gets through with batches that it can do in time."""

    class Slow(BatchingPublisher):
        async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
            await asyncio.sleep(0.05 * len(messages))
            return await super().publish_batch(messages)

    sender = BatchSender(Slow(), "svc", timeout_s=0.3)
    events = [Event(event_key=f"k{number}") for number in range(16)]
    sizes = []
    while True:
        batch = events[: sender.most]
        sizes.append(len(batch))
        if all(outcome.acknowledged for outcome in await sender.deliver(batch)):
            break
    assert sizes[0] == 16
    assert 1 <= sizes[-1] <= 4
    assert sender.most > sizes[-1]  # and tries more again


async def test_one_by_one_ends_at_an_outage() -> None:
    """After a connection loss nothing more of the batch is tried."""
    publisher = Publisher()
    publisher.errors["b"] = KafkaConnectionError("gone")
    events = [Event(event_key="a"), Event(event_key="b"), Event(event_key="c")]
    outcomes = await OneByOneSender(publisher, "svc").deliver(events)
    assert [outcome.acknowledged for outcome in outcomes] == [True, False, False]
    assert [outcome.attempted for outcome in outcomes] == [True, True, False]


async def test_one_by_one_goes_on_behind_poison() -> None:
    """Poison holds back its own key only."""
    publisher = Publisher()
    publisher.errors["b"] = ValueError("no")
    events = [Event(event_key="b"), Event(event_key="b"), Event(event_key="c")]
    outcomes = await OneByOneSender(publisher, "svc").deliver(events)
    assert [outcome.attempted for outcome in outcomes] == [True, False, True]
    assert [one.key for one in publisher.published] == ["c"]
