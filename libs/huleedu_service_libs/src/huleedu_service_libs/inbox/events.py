"""What the inbox calls an event: a 16-byte id, and on request a hash of its data. Pure."""

import hashlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2.identity import EventIdentity, identify

__all__ = ["InboxEvent", "inbox_event"]

_HASH_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxEvent:
    """One event, as a row has it.

    Attributes:
        id: The event's id when that is a UUID, else the first 16 bytes of its SHA-256. The same whether
            it came in the headers or in the body.
        payload_hash: 16 bytes of the SHA-256 of id and data; ``None`` when nobody asked for it.
        identity: What else the message says of itself.
    """

    id: UUID
    payload_hash: bytes | None
    identity: EventIdentity


def inbox_event(msg: Any, *, with_payload_hash: bool) -> InboxEvent:
    """The event that a message carries.

    Raises:
        ValueError: Neither headers nor body say which event it is.
    """
    identity = identify(msg)
    return InboxEvent(
        id=_id_of(identity),
        payload_hash=_payload_hash(msg, identity) if with_payload_hash else None,
        identity=identity,
    )


def _id_of(identity: EventIdentity) -> UUID:
    given = identity.event_id
    if not given:  # without an id the content is the identity
        return UUID(hex=identity.digest[: 2 * _HASH_BYTES])
    try:
        return UUID(given)
    except ValueError:
        return UUID(bytes=hashlib.sha256(given.encode()).digest()[:_HASH_BYTES])


def _payload_hash(msg: Any, identity: EventIdentity) -> bytes:
    if identity.body_parsed:  # the digest is of the content already
        return bytes.fromhex(identity.digest)[:_HASH_BYTES]
    try:
        return bytes.fromhex(generate_deterministic_event_id(msg.value))[:_HASH_BYTES]
    except ValueError:  # headers suffice for an identity, the body may be anything
        return hashlib.sha256(msg.value or b"").digest()[:_HASH_BYTES]
