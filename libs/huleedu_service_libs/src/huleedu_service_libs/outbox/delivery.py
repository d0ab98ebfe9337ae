"""Hands a batch of events to a publisher and tells what became of each.

Two senders, one result: `BatchSender` for publishers that take encoded batches
(`BatchPublisher`), `OneByOneSender` for any other. Both keep the order of a key:
after an event that failed, none of its key is sent.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from huleedu_service_libs.observability import get_tracer
from huleedu_service_libs.observability.links import linked_span
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.outbox.protocols import OutboxEvent
from huleedu_service_libs.outbox.wire import TRACE_FIELDS, envelope_of, key_of, message_of, standard_headers
from huleedu_service_libs.protocols import (
    BatchPublisher,
    DeliveryOutcome,
    KafkaPublisherProtocol,
    OutgoingMessage,
    concrete_capability,
)

__all__ = ["BatchSender", "OneByOneSender", "Sender", "sender_for"]

PUBLISH_TIMEOUT_S = 180.0  # publishers of ours give up by themselves; a foreign one may know no limit

MOST_EVENTS = 2**20  # no limit: that is the setting's

_HELD_BACK = DeliveryOutcome(error=RuntimeError("held back behind an earlier event of its key"), attempted=False)


class Sender(Protocol):
    """Delivers events.

    Attributes:
        most: How many events the next batch may hold.
        notes_outages: Whether the event at which an outage begins is given a failed attempt, its first and
            never its last. Services' tests expect that of a publisher that raises whatever it likes.
    """

    notes_outages: bool

    @property
    def most(self) -> int:
        """See above."""
        ...

    async def deliver(
        self, events: Sequence[OutboxEvent], *, go_on: Callable[[], bool] = lambda: True
    ) -> Sequence[DeliveryOutcome]:
        """One outcome for each event, in order; raises for none of them.

        Args:
            events: A batch, oldest first.
            go_on: Asked between events that are sent one by one; ``False`` holds back the rest.
        """
        ...


def sender_for(publisher: KafkaPublisherProtocol, service_name: str) -> Sender:
    """The sender that fits what the publisher's class can do."""
    if concrete_capability(publisher, "publish_batch", beside=["publish"]) is not None:
        batch_publisher: BatchPublisher = publisher  # type: ignore[assignment]  # has just been looked at
        return BatchSender(batch_publisher, service_name)
    return OneByOneSender(publisher, service_name)


class BatchSender:
    """Encodes the events and publishes them as one batch.

    A batch that a publisher does not get done in time is made smaller, by halves, until it is: a publisher
    that is slow makes progress, too.

    Args:
        publisher: Takes the batches.
        service_name: Stands in for a missing ``source_service``.
        timeout_s: What one batch may take.
    """

    notes_outages = False

    def __init__(self, publisher: BatchPublisher, service_name: str, *, timeout_s: float = PUBLISH_TIMEOUT_S) -> None:
        self._publisher = publisher
        self._service_name = service_name
        self._timeout = timeout_s
        self._most = MOST_EVENTS

    @property
    def most(self) -> int:
        """See `Sender`."""
        return self._most

    async def deliver(
        self,
        events: Sequence[OutboxEvent],
        *,
        go_on: Callable[[], bool] = lambda: True,  # noqa: ARG002  # a batch goes out whole
    ) -> Sequence[DeliveryOutcome]:
        """See `Sender`."""
        outcomes = [_HELD_BACK] * len(events)
        positions: list[int] = []
        messages: list[OutgoingMessage] = []
        topic_of_key: dict[str, str] = {}
        broken: set[str] = set()
        for position, event in enumerate(events):
            key = key_of(event)
            # Two topics are written at the same time: a key that changes its topic waits for the next batch.
            if key in broken or topic_of_key.setdefault(key, event.topic) != event.topic:
                broken.add(key)
                continue
            try:
                messages.append(message_of(event, self._service_name))
            except Exception as error:  # noqa: BLE001  # whatever a row holds, it is the row's own fault
                outcomes[position] = DeliveryOutcome(error=error)
                broken.add(key)
            else:
                positions.append(position)
        for position, outcome in zip(positions, await self._publish(messages), strict=True):
            outcomes[position] = outcome
        return outcomes

    async def _publish(self, messages: Sequence[OutgoingMessage]) -> Sequence[DeliveryOutcome]:
        if not messages:
            return []
        timeout = asyncio.timeout(self._timeout)
        try:
            with _span(self._service_name, len(messages), lambda: map(_carrier, messages)) as span:
                async with timeout:
                    outcomes = await self._publisher.publish_batch(messages)
                if span.is_recording():
                    failed = sum(outcome.error is not None for outcome in outcomes)
                    span.set_attribute("huleedu.outbox.unacknowledged", failed)
        except Exception as error:  # noqa: BLE001  # the port raises for no message: it is the publisher that is unwell
            if timeout.expired():
                self._most = max(1, len(messages) // 2)
            return [DeliveryOutcome(error=error, transient=True)] * len(messages)
        self._most = min(MOST_EVENTS, 2 * self._most)
        return outcomes


class OneByOneSender:
    """Publishes one envelope after the other."""

    notes_outages = True
    most = MOST_EVENTS

    def __init__(self, publisher: KafkaPublisherProtocol, service_name: str) -> None:
        self._publisher = publisher
        self._service_name = service_name

    async def deliver(
        self, events: Sequence[OutboxEvent], *, go_on: Callable[[], bool] = lambda: True
    ) -> Sequence[DeliveryOutcome]:
        """See `Sender`. An outage ends the batch: the rest is held back."""
        outcomes: list[DeliveryOutcome] = []
        broken: set[str] = set()
        outage = False
        for event in events:
            key = key_of(event)
            if outage or key in broken or not go_on():
                broken.add(key)
                outcomes.append(_HELD_BACK)
                continue
            outcome = await self._publish(event)
            outcomes.append(outcome)
            if not outcome.acknowledged:
                broken.add(key)
                outage = outcome.transient
        return outcomes

    async def _publish(self, event: OutboxEvent) -> DeliveryOutcome:
        try:
            envelope = envelope_of(event, self._service_name)
            headers = standard_headers(event, envelope.model_dump(mode="json", exclude={"data"}))
            with _span(self._service_name, 1, lambda: [headers]):
                async with asyncio.timeout(PUBLISH_TIMEOUT_S):
                    await self._publisher.publish(
                        topic=event.topic, envelope=envelope, key=event.event_key, headers=headers
                    )
        except Exception as error:  # noqa: BLE001  # becomes the outcome; the relay counts and logs it
            return DeliveryOutcome(error=error, transient=is_outage(error))
        return DeliveryOutcome()


def _span(
    service_name: str, messages: int, carriers: Callable[[], Iterable[Mapping[str, str]]]
) -> AbstractContextManager[Any]:
    """A span for what is published together, linked to the traces in which its events were stored."""
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.batch.message_count": messages,
        "service.name": service_name,
    }
    return linked_span(get_tracer("huleedu.outbox.relay"), "outbox publish", carriers, attributes)


def _carrier(message: OutgoingMessage) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers if name in TRACE_FIELDS}
