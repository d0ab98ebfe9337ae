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
        outage: What kept the rest from being sent, if that lies outside of them.
        interrupted: The event at which it was noticed.
    """

    published: list[OutboxEvent] = field(default_factory=list)
    failed: list[FailedEvent] = field(default_factory=list)
    outage: Exception | None = None
    interrupted: FailedEvent | None = None


def judge(events: Sequence[OutboxEvent], outcomes: Sequence[DeliveryOutcome]) -> Batch:
    """Sort events into published, failed and still waiting; pure.

    Only the acknowledged prefix of a key is published: an event that left although an earlier one
    of its key did not is sent again, behind it.
    """
    batch = Batch()
    broken: set[str] = set()
    for event, outcome in zip(events, outcomes, strict=True):
        key = key_of(event)
        if key in broken:
            continue
        if outcome.error is None:
            batch.published.append(event)
            continue
        broken.add(key)
        if outcome.transient:
            batch.outage = batch.outage or outcome.error
            batch.interrupted = batch.interrupted or FailedEvent(event=event, error=_text_of(outcome.error))
        elif outcome.attempted:
            batch.failed.append(FailedEvent(event=event, error=_text_of(outcome.error)))
    return batch


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
