"""What the outbox stores of an event: the envelope's JSON form, the delivery fields, and the key. Knows no storage.

`manager` uses it; `wire` makes messages of it again.
"""

from dataclasses import dataclass
from typing import Any

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._correlation import correlated
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.observability import inject_trace_context
from huleedu_service_libs.outbox.insertion import NewRow

__all__ = ["NewEvent", "event_key_of", "payload_of", "row_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that is to be stored; see `OutboxManager.publish_to_outbox` for the fields."""

    aggregate_type: str
    aggregate_id: str
    event_type: str
    event_data: EventEnvelope[Any]
    topic: str
    message_key: str | None = None
    headers: dict[str, str] | None = None


def row_of(event: NewEvent) -> NewRow:
    """The row of an event, with an id of its own.

    Raises:
        ValueError: What should be an envelope is none.
    """
    payload = payload_of(event.event_data, event.topic, event.headers)
    return NewRow(
        id=uuid7(),
        aggregate_id=event.aggregate_id,
        aggregate_type=event.aggregate_type,
        event_type=event.event_type,
        event_data=payload,
        topic=event.topic,
        event_key=event_key_of(payload, event.message_key, event.aggregate_id),
    )


def payload_of(event_data: Any, topic: str, headers: dict[str, str] | None) -> dict[str, Any]:
    """What is stored: the envelope's JSON form and, behind it, the delivery fields.

    Raises:
        ValueError: What should be an envelope is none.
    """
    if not hasattr(event_data, "model_dump"):
        raise ValueError(f"OutboxManager expects Pydantic EventEnvelope, got {type(event_data).__name__}")
    payload: dict[str, Any] = correlated(event_data).model_dump(mode="json")
    metadata = payload.get("metadata")
    if not (isinstance(metadata, dict) and "traceparent" in metadata):
        carrier: dict[str, Any] = {}
        inject_trace_context(carrier)
        if carrier:
            payload["metadata"] = {**(metadata or {}), **carrier}
    payload["topic"] = topic
    if headers:
        payload["headers"] = dict(headers)
    return payload


def event_key_of(payload: dict[str, Any], message_key: str | None, aggregate_id: str) -> str:
    """The key whose order holds: the envelope's own wish, else the caller's, else the aggregate."""
    metadata = payload.get("metadata")
    declared = metadata.get("partition_key") if isinstance(metadata, dict) else None
    return str(declared) if declared else message_key or aggregate_id
