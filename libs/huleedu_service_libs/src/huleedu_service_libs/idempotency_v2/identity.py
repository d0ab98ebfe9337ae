"""Who a Kafka message is: event id, type, correlation and the digest that its key is made of.

Pure; ``idempotency_v2`` uses it. Headers that are complete save parsing the body.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.encoder import encode_basestring_ascii
from typing import Any

import orjson

from huleedu_service_libs.event_utils import generate_deterministic_event_id

__all__ = ["EventIdentity", "header_texts", "identify"]

_UNKNOWN = "unknown"
_TRACE_HEADERS = ("traceparent", "tracestate")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventIdentity:
    """What idempotency needs to know of a message.

    Attributes:
        event_id: As the producer gave it; ``None`` when it gave none.
        event_type: ``unknown`` when there is none that is text.
        correlation_id: The request that the event belongs to.
        source_service: Who sent it.
        digest: SHA-256, 64 hex digits; equal for duplicates that come the same way.
        body_parsed: Whether the headers did not suffice.
        trace_carrier: W3C trace context of the message; empty when it has none.
    """

    event_id: str | None
    event_type: str
    correlation_id: str | None
    source_service: str
    digest: str
    body_parsed: bool
    trace_carrier: dict[str, Any] = field(default_factory=dict)


def identify(msg: Any) -> EventIdentity:
    """The identity of a message.

    Raises:
        ValueError: The headers do not suffice, and the body is not a JSON object with ``data``.
    """
    headers = header_texts(msg)
    event_id, event_type = headers.get("event_id"), headers.get("event_type")
    if event_id and event_type:
        return EventIdentity(
            event_id=event_id,
            event_type=event_type,
            correlation_id=headers.get("trace_id"),
            source_service=headers.get("source_service", _UNKNOWN),
            digest=_digest_of_id(event_id),
            body_parsed=False,
            trace_carrier=_trace_headers(headers),
        )
    digest = generate_deterministic_event_id(msg.value)
    # Without its id the headers are not this event's own: nothing else is taken from them.
    return _from_body(_parse(msg.value), digest, headers if event_id else {}, _trace_headers(headers))


def _from_body(
    body: Mapping[str, Any], digest: str, headers: Mapping[str, str], trace_headers: dict[str, Any]
) -> EventIdentity:
    metadata = body.get("metadata")
    return EventIdentity(
        event_id=headers.get("event_id") or _optional_text(body.get("event_id")),
        event_type=_text_or_unknown(body.get("event_type")),
        correlation_id=headers.get("trace_id") or _optional_text(body.get("correlation_id")),
        source_service=headers.get("source_service") or _text_or_unknown(body.get("source_service")),
        digest=digest,
        body_parsed=True,
        trace_carrier=trace_headers or (metadata if isinstance(metadata, dict) else {}),
    )


def header_texts(msg: Any) -> dict[str, str]:
    """The headers of a message as text; what is no pair, or not UTF-8, is left out."""
    headers = getattr(msg, "headers", None)
    if not isinstance(headers, list | tuple):
        return {}
    texts: dict[str, str] = {}
    for header in headers:
        try:
            name, value = header
            texts[_decode(name)] = _decode(value)
        except (ValueError, TypeError, AttributeError):
            continue
    return texts


def _decode(value: Any) -> str:
    return value if isinstance(value, str) else value.decode("utf-8")


def _trace_headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {name: headers[name] for name in _TRACE_HEADERS if name in headers} if "traceparent" in headers else {}


def _digest_of_id(event_id: str) -> str:
    # As json.dumps(..., sort_keys=True, separators=(",", ":")) writes it, in a fifth of the time.
    canonical = f'{{"event_id":{encode_basestring_ascii(event_id)}}}'
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _parse(value: bytes) -> dict[str, Any]:
    try:
        body: dict[str, Any] = orjson.loads(value)
    except orjson.JSONDecodeError:  # stricter than the digest's parser: NaN, lone surrogates
        body = json.loads(value)
    return body


def _optional_text(value: Any) -> str | None:
    return None if value is None else str(value)


def _text_or_unknown(value: Any) -> str:
    return value if isinstance(value, str) else _UNKNOWN
