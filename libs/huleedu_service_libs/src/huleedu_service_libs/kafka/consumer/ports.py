"""What a handler is given, and the port of what stands between consumer and handler.

Idempotency and the inbox are a `ProcessingStep` each; the consumer knows neither of
them. Knows no driver: a record is whatever has aiokafka's ``ConsumerRecord`` members.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from common_core.events.envelope import EventEnvelope

__all__ = ["Delivery", "ManyStep", "Proceed", "ProcessingStep"]

T_Data = TypeVar("T_Data", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery(Generic[T_Data]):
    """One event on its way to its handler.

    Attributes:
        record: As Kafka delivered it (`aiokafka.ConsumerRecord`).
        envelope: The decoded value; its ``data`` is the validated model.
        data: The same model.
        attempt: Which run of the handler this is, from 1, earlier ones from retry topics included; runs
            before a crash of the process are not known.
    """

    record: Any
    envelope: EventEnvelope[Any]
    data: T_Data
    attempt: int = 1


Proceed = Callable[..., Awaitable[None]]
"""Goes on to the next step, or to the handler. Keywords reach the handler if it has parameters of these names."""


class ProcessingStep(Protocol):
    """Stands between consumer and handler: decides whether the handler runs, and with what.

    A class that says in ``offers`` which parameters it fills (a set of names) has handlers checked when they are registered.
    """

    async def process(self, delivery: Delivery[Any], proceed: Proceed) -> None:
        """Process one event.

        Called at the same time for events of different keys, and never for two of one key of a partition.
        May be cancelled, at a rebalance or at the stop.

        Args:
            delivery: The event.
            proceed: To be awaited once, or not at all when the event was processed before. It raises what the
                handler raises, or `HandlerTimeoutError`.

        Raises:
            DeferredError: Not at the moment, because another worker has the event or (`StoreDownError`) a store does
                not answer; no attempt is counted, and the key waits.
            Exception: What the handler raises, or the step's own trouble: an attempt that failed.
        """
        ...


class ManyStep(ProcessingStep, Protocol):
    """A step that begins and ends many events at once; the runner uses it where it is a handler's only step.

    What `admit` makes of an event is a passage, which only the step can read.
    """

    async def admit(self, deliveries: Sequence[Delivery[Any]]) -> Sequence[Any]:
        """Begin events of different keys; one passage for each, in order. Raises nothing but cancellation."""
        ...

    async def pass_through(self, passage: Any, proceed: Proceed) -> None:
        """As `ProcessingStep.process`, but not done before `conclude`. Trace and log fields are current already."""
        ...

    async def conclude(self, passages: Sequence[Any]) -> None:
        """End events that `pass_through` has returned for. Raises nothing but cancellation."""
        ...

    async def abandon(self, passage: Any) -> None:
        """End an event that `pass_through` will not be called for. Raises nothing but cancellation."""
        ...
