"""From a stored row to what goes over the wire. Pure; knows no database and no Kafka.

The stored payload is the envelope's JSON form plus the delivery fields
``topic`` and, when the caller gave some, ``headers``, behind it. A row always gives the
same envelope: what it lacks is filled in from the row itself, never from the
clock or from chance, so that every attempt sends the same bytes. Where nothing is lacking, and
the table keeps text as it was stored (JSON, not JSONB), the bytes are those that were stored.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _json
from huleedu_service_libs.outbox.protocols import OutboxEvent
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["TRACE_FIELDS", "envelope_of", "key_of", "message_of", "standard_headers"]

_TIME_ORDERED = 7  # the UUID version whose first 48 bits are milliseconds
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STORED_FIELDS = EventEnvelope.model_fields.keys() | {"topic"}
_STORED_FIELDS_WITH_HEADERS = _STORED_FIELDS | {"headers"}
TRACE_FIELDS = ("traceparent", "tracestate")  # of W3C Trace Context, in metadata and headers


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
    text = getattr(event, "stored_text", None)
    message = _passed_on(event, text) if isinstance(text, str) else None
    if message is not None:
        return message
    fields = _envelope_fields(event, service_name)
    headers = standard_headers(event, fields)
    return OutgoingMessage(
        topic=event.topic,
        value=_json.dumps(fields),
        key=key_of(event).encode("utf-8"),
        headers=[(name, text.encode("utf-8")) for name, text in headers.items()],
    )


def _passed_on(event: OutboxEvent, text: str) -> OutgoingMessage | None:
    """The message whose value is the stored text up to the delivery fields; ``None`` when something must be filled in."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(fields, dict):
        return None
    cut = _delivery_fields_at(event, text, fields)
    metadata = fields.get("metadata")
    if cut is None or not isinstance(metadata, dict) or not _is_complete(event, fields):
        return None
    headers = [
        ("event_id", fields["event_id"].encode()),
        ("event_type", event.event_type.encode()),
        ("trace_id", fields["correlation_id"].encode()),
        ("source_service", fields["source_service"].encode()),
        ("schema_version", str(fields["schema_version"]).encode()),
        ("occurred_at", fields["event_timestamp"].encode()),
        ("content_type", b"application/json"),
    ]
    headers += [(name, metadata[name].encode()) for name in TRACE_FIELDS if isinstance(metadata.get(name), str)]
    if "headers" in fields:
        named = standard_headers(event, fields, stored=fields["headers"] or {})
        headers = [(name, value.encode("utf-8")) for name, value in named.items()]
    return OutgoingMessage(
        topic=event.topic, value=f"{text[:cut]}}}".encode(), key=key_of(event).encode("utf-8"), headers=headers
    )


def _delivery_fields_at(event: OutboxEvent, text: str, fields: Mapping[str, Any]) -> int | None:
    """Where the delivery fields begin, when they are the end of the text and all that stands beside the envelope.

    A comma, a quote and ``topic`` in a row can only be a key: within a string the quote would be escaped. What is
    an object from there to the end of the text is therefore the end of the outermost one.
    """
    keys = fields.keys()
    if keys == _STORED_FIELDS:
        tail = f',"topic":"{event.topic}"}}'
        return len(text) - len(tail) if text.endswith(tail) else None
    if keys != _STORED_FIELDS_WITH_HEADERS:
        return None
    cut = text.rfind(',"topic":')
    try:
        tail_fields = orjson.loads("{" + text[cut + 1 :]) if cut > 0 else {}
    except orjson.JSONDecodeError:
        return None
    return cut if tail_fields.keys() == {"topic", "headers"} else None


def _is_complete(event: OutboxEvent, fields: Mapping[str, Any]) -> bool:
    """Whether every field of the envelope is what `_envelope_fields` would make of it."""
    source, version, uri = fields["source_service"], fields["schema_version"], fields["data_schema_uri"]
    return (
        fields["event_type"] == event.event_type
        and _is_canonical(fields["event_id"])
        and _is_canonical(fields["correlation_id"])
        and isinstance(source, str)
        and source != ""
        and type(version) is int
        and (uri is None or isinstance(uri, str))
        and _moment_text(fields["event_timestamp"]) is not None
    )


def _is_canonical(value: object) -> bool:
    return isinstance(value, str) and _CANONICAL_UUID.fullmatch(value) is not None


def standard_headers(event: OutboxEvent, fields: Mapping[str, Any], *, stored: object = None) -> dict[str, str]:
    """The headers that every published event carries; what the caller stored wins.

    Args:
        event: The row, for stored headers.
        fields: The envelope's fields in JSON form.
        stored: What the caller stored, where it is known already.
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
    for name in TRACE_FIELDS:
        if isinstance(metadata.get(name), str):
            headers[name] = metadata[name]
    stored = event.event_data.get("headers") if stored is None else stored
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
