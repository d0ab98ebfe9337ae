"""Pure helpers over events: identities from content, and fields found in bodies.

Used by idempotency and by the services. Knows no Kafka and no Redis.
"""

import hashlib
import json
from typing import Any

__all__ = [
    "extract_correlation_id_as_string",
    "extract_correlation_id_from_event",
    "extract_user_id_from_event_data",
    "generate_deterministic_event_id",
]

_USER_ID_ATTRIBUTES = (
    "user_id",
    "created_by_user_id",
    "updated_by_user_id",
    "created_by_id",
    "updated_by_id",
    "owner_id",
    "author_id",
)


def generate_deterministic_event_id(msg_value: bytes) -> str:
    """The identity of an event, from its content alone.

    The same ``event_id`` and ``data`` give the same digest, whatever the timestamp or the
    correlation id say. Services precompute it to seed Redis, so the canonical text is fixed:
    ``json.dumps(subject, sort_keys=True)`` with its default separators and ASCII escaping, where
    the subject is ``{"event_id": ..., "data": ...}``, or ``data`` alone without an event id.

    Args:
        msg_value: The JSON body of a message.

    Returns:
        The SHA-256 of the canonical text, 64 lower-case hex digits.

    Raises:
        ValueError: The body is not a JSON object, or has no ``data``.
    """
    try:
        body = json.loads(msg_value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"Event body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError(f"Event body must be a JSON object, got {type(body).__name__}")  # noqa: TRY004  # the contract's type
    data = body.get("data")
    if data is None:
        raise ValueError("Event body has no 'data', so it has no identity")
    event_id = body.get("event_id")
    subject = {"event_id": event_id, "data": data} if event_id else data
    return hashlib.sha256(json.dumps(subject, sort_keys=True).encode("utf-8")).hexdigest()


def extract_user_id_from_event_data(event_data: Any) -> str | None:
    """The user that an event belongs to: the first of the usual attributes that is set."""
    for name in _USER_ID_ATTRIBUTES:
        value = getattr(event_data, name, None)
        if value:
            return str(value)
    return None


def extract_correlation_id_as_string(correlation_id: Any) -> str | None:
    """``correlation_id`` as text, ``None`` staying ``None``."""
    return None if correlation_id is None else str(correlation_id)


def extract_correlation_id_from_event(msg_value: bytes) -> str | None:
    """The ``correlation_id`` of a JSON body, or ``None`` when there is none that is a string."""
    try:
        body = json.loads(msg_value)
    except (TypeError, ValueError, RecursionError):
        return None
    value = body.get("correlation_id") if isinstance(body, dict) else None
    return value if isinstance(value, str) else None
