"""What became of a batch: decided from the outcomes alone. Pure; the relay acts on it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.wire import key_of
from huleedu_service_libs.protocols import DeliveryOutcome

__all__ = ["Batch", "judge", "without_broken"]


@dataclass(slots=True)
class Batch:
    """What became of a batch.

    Attributes:
        size: Events in it.
        published: Acknowledged, and nothing before them in their key is not.
        failed: For reasons of their own.
        outages: For each topic with events that could not be sent for no fault of theirs, the first cause.
        part_outages: The same for topics others of whose events arrived.
        interrupted: The event at which the first outage was noticed.
        waiting_keys: Keys of events that met an outage of a topic others of which arrived: not the topic
            but a part of it is out of reach.
        stopped_keys: Keys of events that are not published: nothing of theirs may follow now.
    """

    size: int = 0
    published: list[OutboxEvent] = field(default_factory=list)
    failed: list[FailedEvent] = field(default_factory=list)
    outages: dict[str, Exception] = field(default_factory=dict)
    part_outages: dict[str, Exception] = field(default_factory=dict)
    interrupted: FailedEvent | None = None
    waiting_keys: set[str] = field(default_factory=set)
    stopped_keys: set[str] = field(default_factory=set)

    @property
    def is_clean(self) -> bool:
        """Whether every event is published."""
        return not self.stopped_keys


def judge(events: Sequence[OutboxEvent], outcomes: Sequence[DeliveryOutcome]) -> Batch:
    """Sort events into published, failed and still waiting.

    Only the acknowledged prefix of a key is published: an event that left although an earlier one
    of its key did not is sent again, behind it.
    """
    if all(outcome.error is None for outcome in outcomes) and len(events) == len(outcomes):
        return Batch(size=len(events), published=list(events))
    batch = Batch(size=len(events))
    broken = batch.stopped_keys
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
            batch.interrupted = batch.interrupted or FailedEvent(event=event, error=error_text(outcome.error))
        elif outcome.attempted:
            batch.failed.append(FailedEvent(event=event, error=error_text(outcome.error)))
    reached = {event.topic for event in batch.published}
    batch.waiting_keys = {key_of(event) for event in waiting if event.topic in reached}
    batch.part_outages = {topic: error for topic, error in batch.outages.items() if topic in reached}
    batch.outages = {topic: error for topic, error in batch.outages.items() if topic not in reached}
    return batch


def without_broken(events: Sequence[OutboxEvent], before: Batch) -> list[OutboxEvent]:
    """The events that may follow a batch: none of a key that has stopped in it or of a topic that is out of reach.

    Args:
        events: Read while the batch was delivered, oldest first.
        before: What became of that.
    """
    if before.is_clean:
        return list(events)
    broken = set(before.stopped_keys)
    left = []
    for event in events:
        key = key_of(event)
        if key in broken or event.topic in before.outages:
            broken.add(key)
        else:
            left.append(event)
    return left
