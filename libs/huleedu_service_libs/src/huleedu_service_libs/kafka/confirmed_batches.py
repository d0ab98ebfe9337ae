"""Batches through a breaker, with true outcomes: what the outbox relay gets from a resilient publisher."""

from collections.abc import Sequence
from typing import Any, Protocol

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.errors import MessageHeldBackError
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage, concrete_capability
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.errors import CircuitBreakerError

__all__ = ["ConfirmedBatches"]


class Publishes(Protocol):
    """The part of a bus that single envelopes need."""

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish and wait for the acknowledgement."""
        ...


class ConfirmedBatches:
    """Sends batches through a bus; one whose class has no ``publish_batch`` gets one envelope after the other.

    Args:
        delegate: The bus.
    """

    def __init__(self, delegate: Publishes) -> None:
        self._delegate = delegate

    async def send(self, messages: Sequence[OutgoingMessage], breaker: CircuitBreaker | None) -> list[DeliveryOutcome]:
        """One outcome for each message, in order. A batch counts as one call of the breaker."""
        if not messages:
            return []
        if breaker is None:
            return await self._publish(messages)
        try:
            async with breaker.guard() as call:
                outcomes = await self._publish(messages)
                call.failed = _tell_of_an_outage(outcomes)
        except CircuitBreakerError as refusal:
            return [DeliveryOutcome(error=refusal, transient=True, attempted=False)] * len(messages)
        return outcomes

    async def _publish(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        publish_batch = concrete_capability(self._delegate, "publish_batch")
        if publish_batch is not None:
            return list(await publish_batch(messages))
        outcomes: list[DeliveryOutcome] = []
        failed: dict[bytes | None, Exception] = {}
        for message in messages:
            earlier = failed.get(message.key) if message.key is not None else None
            if earlier is not None:
                held = MessageHeldBackError(message.topic, error_text(earlier))
                outcomes.append(DeliveryOutcome(error=held, transient=True, attempted=False))
                continue
            outcome = await self._publish_one(message)
            if outcome.error is not None:
                failed[message.key] = outcome.error
            outcomes.append(outcome)
        return outcomes

    async def _publish_one(self, message: OutgoingMessage) -> DeliveryOutcome:
        try:
            envelope = EventEnvelope[Any].model_validate_json(message.value)
            headers = {name: value.decode("utf-8") for name, value in message.headers}
            key = None if message.key is None else message.key.decode("utf-8")
            await self._delegate.publish(message.topic, envelope, key, headers or None)
        except Exception as error:  # noqa: BLE001  # becomes the outcome
            return DeliveryOutcome(error=error, transient=is_outage(error))
        return DeliveryOutcome()


def _tell_of_an_outage(outcomes: Sequence[DeliveryOutcome]) -> bool:
    """Whether the broker did not answer; or nothing was tried, because it did not answer the batch before."""
    if any(outcome.transient and outcome.attempted for outcome in outcomes):
        return True
    return all(outcome.transient and not outcome.attempted for outcome in outcomes)
