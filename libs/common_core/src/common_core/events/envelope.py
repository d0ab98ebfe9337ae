"""The envelope that every event travels in, from an outbox row to a handler.

Producers, the relay and consumers use it. It knows nothing of Kafka or of the
events' own data: ``data`` is typed ``Any`` on purpose, so that a model passed
in is kept as it is and a decoded envelope hands out a plain ``dict`` that the
handler validates with the event's model.
"""

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

__all__ = ["EventEnvelope", "T_EventData"]

T_EventData = TypeVar("T_EventData", bound=BaseModel)


def _now() -> datetime:
    return datetime.now(UTC)


class EventEnvelope(BaseModel, Generic[T_EventData]):
    """One event with what is needed to route, trace and recognise it.

    Attributes:
        event_id: Identity of the event; it stays the same however often the event is sent.
        event_type: Name and version, such as ``huleedu.essay.spellcheck.completed.v1``.
        event_timestamp: When the event happened, with time zone, UTC by default.
        source_service: The service that produced it.
        schema_version: Version of ``data``.
        correlation_id: Ties together everything that one request caused.
        data_schema_uri: Where the schema of ``data`` can be read, if anywhere.
        data: The event's own model, or a plain mapping.
        metadata: Carrier of trace context and partition key.
    """

    model_config = ConfigDict(populate_by_name=True)

    event_id: UUID = Field(default_factory=uuid4)
    event_type: str
    event_timestamp: datetime = Field(default_factory=_now)
    source_service: str
    schema_version: int = 1
    correlation_id: UUID = Field(default_factory=uuid4)
    data_schema_uri: str | None = None
    data: SerializeAsAny[Any]
    metadata: dict[str, Any] | None = None
