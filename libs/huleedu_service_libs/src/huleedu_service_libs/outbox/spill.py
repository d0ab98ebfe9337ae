"""Hands messages that a resilient publisher could not send to the outbox, whose relay sends them in time.

Give an `OutboxSpill` to `ResilientKafkaPublisher`: what a stop would lose becomes rows.
"""

from collections.abc import Sequence
from typing import Any

from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol

__all__ = ["OutboxSpill"]


class OutboxSpill:
    """Writes each message as a row; the relay owns it from then on.

    Args:
        repository: Where to.
        aggregate_type: Of the rows.
    """

    def __init__(self, repository: OutboxRepositoryProtocol, aggregate_type: str = "spilled_message") -> None:
        self._repository = repository
        self._aggregate_type = aggregate_type

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Add the rows, in order."""
        for message in messages:
            fields = message.envelope.model_dump(mode="json")
            fields["topic"] = message.topic
            if message.headers:
                fields["headers"] = message.headers
            await self._repository.add_event(
                aggregate_id=message.key or str(message.envelope.event_id),
                aggregate_type=self._aggregate_type,
                event_type=message.envelope.event_type,
                event_data=fields,
                topic=message.topic,
                event_key=message.key,
            )

    async def load(self) -> list[QueuedMessage[Any]]:
        """Nothing: the relay sends the rows."""
        return []
