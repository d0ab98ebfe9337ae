"""What became of a batch: decided from the outcomes alone. Pure; the relay acts on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.wire import key_of
from huleedu_service_libs.protocols import DeliveryOutcome

__all__ = ["Batch", "judge"]


@dataclass(slots=True)
class Batch:
    """What became of a batch.

    Attributes:
        published: Acknowledged, and nothing before them in their key is not.
        failed: For reasons of their own.
        outages: For each topic with events that could not be sent for no fault of theirs, the first cause.
        interrupted: The event at which the first outage was noticed.
        waiting_keys: Keys of events that met an outage of a topic others of which arrived: not the topic
            but a part of it is out of reach.
    """

    published: list[OutboxEvent] = field(default_factory=list)
    failed: list[FailedEvent] = field(default_factory=list)
    outages: dict[str, Exception] = field(default_factory=dict)
    interrupted: FailedEvent | None = None
    waiting_keys: set[str] = field(default_factory=set)


def judge(events: Sequence[OutboxEvent], outcomes: Sequence[DeliveryOutcome]) -> Batch:
    """Sort events into published, failed and still waiting.

    Only the acknowledged prefix of a key is published: an event that left although an earlier one
    of its key did not is sent again, behind it.
    """
    batch = Batch()
    broken: set[str] = set()
    waiting: list[OutboxEvent] = []
    for event, outcome in zip(events, outcomes, strict=True):
        key = key_of(event)
        if key in broken:
            continue
        if outcome.error is None:
            batch.published.append(event)
            continue
        broken.add(key)
        if outcome.transient:
            waiting.append(event)
            batch.outages.setdefault(event.topic, outcome.error)
            batch.interrupted = batch.interrupted or FailedEvent(event=event, error=_text_of(outcome.error))
        elif outcome.attempted:
            batch.failed.append(FailedEvent(event=event, error=_text_of(outcome.error)))
    reached = {event.topic for event in batch.published}
    batch.waiting_keys = {key_of(event) for event in waiting if event.topic in reached}
    batch.outages = {topic: error for topic, error in batch.outages.items() if topic not in reached}
    return batch


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
