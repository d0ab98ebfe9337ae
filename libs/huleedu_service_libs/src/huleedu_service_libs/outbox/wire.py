"""From a stored row to what goes over the wire. Pure; knows no database and no Kafka.

The stored payload is the envelope's JSON form plus the delivery fields
``topic`` and, when the caller gave some, ``headers``. A row always gives the
same envelope: what it lacks is filled in from the row itself, never from the
clock or from chance, so that every attempt sends the same bytes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _json
from huleedu_service_libs.outbox.protocols import OutboxEvent
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["envelope_of", "key_of", "message_of", "standard_headers"]

_TIME_ORDERED = 7  # the UUID version whose first 48 bits are milliseconds
_TRACE_FIELDS = ("traceparent", "tracestate")


def key_of(event: OutboxEvent) -> str:
    """The key whose order holds: the event's own, else the aggregate's id."""
    return event.event_key or event.aggregate_id


def envelope_of(event: OutboxEvent, service_name: str) -> EventEnvelope[Any]:
    """The envelope of a row.

    Args:
        event: The row.
        service_name: Stands in for a missing ``source_service``.

    Raises:
        ValueError: The stored payload is no envelope; the text names the field.
    """
    return EventEnvelope[Any].model_validate(_envelope_fields(event, service_name))


def message_of(event: OutboxEvent, service_name: str) -> OutgoingMessage:
    """The message of a row, encoded, with the standard headers.

    Raises:
        ValueError: The stored payload is no envelope.
        TypeError: It cannot be encoded.
    """
    fields = _envelope_fields(event, service_name)
    headers = standard_headers(event, fields)
    return OutgoingMessage(
        topic=event.topic,
        value=_json.dumps(fields),
        key=key_of(event).encode("utf-8"),
        headers=[(name, text.encode("utf-8")) for name, text in headers.items()],
    )


def standard_headers(event: OutboxEvent, fields: Mapping[str, Any]) -> dict[str, str]:
    """The headers that every published event carries; what the caller stored wins.

    Args:
        event: The row, for stored headers.
        fields: The envelope's fields in JSON form.
    """
    headers = {
        "event_id": str(fields["event_id"]),
        "event_type": str(fields["event_type"]),
        "trace_id": str(fields["correlation_id"]),
        "source_service": str(fields["source_service"]),
        "schema_version": str(fields["schema_version"]),
        "occurred_at": str(fields["event_timestamp"]),
        "content_type": "application/json",
    }
    metadata = fields["metadata"]
    for name in _TRACE_FIELDS:
        if isinstance(metadata.get(name), str):
            headers[name] = metadata[name]
    stored = event.event_data.get("headers")
    if isinstance(stored, Mapping):
        headers.update({str(name): str(value) for name, value in stored.items()})
    return headers


def _envelope_fields(event: OutboxEvent, service_name: str) -> dict[str, Any]:
    """The envelope in JSON form; what is missing or of no use is filled in from the row."""
    stored = event.event_data
    if not isinstance(stored, Mapping):
        raise ValueError(f"Outbox row {event.id}: event_data must be a JSON object, is {type(stored).__name__}")  # noqa: TRY004  # poison, like every other unusable payload
    version, uri, metadata = stored.get("schema_version"), stored.get("data_schema_uri"), stored.get("metadata")
    return {
        "event_id": _uuid_text(stored.get("event_id")) or str(event.id),
        "event_type": event.event_type,
        "event_timestamp": _moment_text(stored.get("event_timestamp")) or _moment_of(event),
        "source_service": str(stored.get("source_service") or service_name),
        "schema_version": version if isinstance(version, int) and not isinstance(version, bool) else 1,
        "correlation_id": _uuid_text(stored.get("correlation_id")) or str(event.id),
        "data_schema_uri": uri if isinstance(uri, str) else None,
        "data": stored["data"] if "data" in stored else dict(stored),
        "metadata": metadata if isinstance(metadata, Mapping) else {},
    }


def _uuid_text(value: object) -> str | None:
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def _moment_text(value: object) -> str | None:
    """``value`` itself if it is a point in time with a zone."""
    try:
        return value if isinstance(value, str) and datetime.fromisoformat(value).tzinfo else None
    except ValueError:
        return None


def _moment_of(event: OutboxEvent) -> str:
    """When the row was added; a row of a test that does not say so has the time of its id, or the epoch."""
    created: object = getattr(event, "created_at", None)
    if isinstance(created, datetime):
        aware = created if created.tzinfo else created.replace(tzinfo=UTC)  # some tables have no time zone
    else:
        milliseconds = event.id.int >> 80 if getattr(event.id, "version", None) == _TIME_ORDERED else 0
        aware = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
