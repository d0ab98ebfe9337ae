"""How an envelope with key and headers becomes a message, and the trace that it carries.

`KafkaBus.publish` uses it. Knows no driver.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.kafka.encoding import encode_envelope
from huleedu_service_libs.kafka.errors import InvalidMessageError
from huleedu_service_libs.kafka.validation import find_fault
from huleedu_service_libs.observability.messaging import CONVERSATION, send_span
from huleedu_service_libs.observability.tracing import inject_trace_context
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["encode_message", "sending", "trace_headers"]


def encode_message(
    topic: str,
    envelope: EventEnvelope[Any],
    key: str | None,
    headers: Mapping[str, str] | None,
    added: Mapping[str, str],
    *,
    limit: int,
) -> OutgoingMessage:
    """The message of one envelope.

    Args:
        topic: Where to.
        envelope: The event.
        key: An empty one is none.
        headers: As text.
        added: More headers, which win.
        limit: Largest size, bytes.

    Raises:
        KafkaPublishError: It can never be sent: the subclass says why.
    """
    carried = {**(headers or {}), **added} if headers or added else None
    try:
        message = OutgoingMessage(
            topic=topic,
            value=encode_envelope(envelope),
            key=key.encode("utf-8") if key else None,
            headers=[(name, value.encode("utf-8")) for name, value in carried.items()] if carried else (),
        )
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidMessageError(topic, f"key and header values must be text ({error})") from error
    fault = find_fault(message, limit)
    if fault is not None:
        raise fault
    return message


def trace_headers(envelope: Any, headers: Any) -> dict[str, str]:
    """The current trace as headers, unless the event carries one: what `sending` gives, without a span."""
    added: dict[str, str] = {}
    if "traceparent" not in _carrier_of(envelope, headers):
        inject_trace_context(added)
    return added


@contextmanager
def sending(client_id: str, topic: str, envelope: Any, key: Any, headers: Any) -> Iterator[dict[str, str]]:
    """Run the block, which sends the envelope, in a span; gives headers to add to the message."""
    attributes: dict[str, str | int] = {
        "messaging.client.id": client_id,
        "messaging.message.id": str(getattr(envelope, "event_id", "")),
        CONVERSATION: str(getattr(envelope, "correlation_id", "")),
    }
    if isinstance(key, str) and key:
        attributes["messaging.kafka.message.key"] = key
    with send_span(topic, _carrier_of(envelope, headers), attributes) as added:
        yield added


def _carrier_of(envelope: Any, headers: Any) -> Mapping[str, Any]:
    """Where the event carries the trace of whoever caused it: its headers, else the envelope's metadata."""
    if headers and isinstance(headers, Mapping) and "traceparent" in headers:
        return headers
    metadata = getattr(envelope, "metadata", None)
    return metadata if metadata and isinstance(metadata, Mapping) else {}
