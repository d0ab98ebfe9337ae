"""Settings of an inbox; plain data that checks itself."""

from dataclasses import dataclass

from huleedu_service_libs._checks import positive, values_of
from huleedu_service_libs.store_policy import StoreDownPolicy, check_store_down_policy

__all__ = ["CONSUMER_LENGTH", "DEFAULT_RETENTION_S", "InboxConfig"]

DEFAULT_RETENTION_S = 7 * 24 * 3600.0
"""Kafka's own default for topics (``log.retention.hours`` = 168): what can still be delivered is remembered."""

CONSUMER_LENGTH = 100  # characters, as the table has it


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxConfig:
    """Who processes, and how patient.

    Attributes:
        consumer: Who has processed an event; two handlers of one service that take the same event need
            two names, and so do handlers of two services that share a Redis. 100 characters at most. Never change it: under a new name every event is new.
        check_payload: Store a hash of each event's data, and refuse an event whose id was processed with
            other data (`PayloadMismatchError`). Costs parsing the body.
        store_down: What becomes of an event while PostgreSQL does not answer. ``pause`` and
            ``dead-letter`` raise `StoreDownError`; ``process`` runs the handler with a session, unprotected. Unlike
            `IdempotencyConfig` it does not process by default: the handler's own transaction needs the same database.
        claim_timeout_s: Seconds that a claim may take, waiting for another worker's transaction
            with the same event included; then `InboxBusyError`. Half of what `IdempotencyConfig` waits, since who waits here
            holds a connection.
        fast_path_ttl_s: Seconds for which Redis, if there is one, knows what is processed; PostgreSQL knows it for longer.
        fast_path_timeout_s: Seconds that Redis may take; then PostgreSQL is asked. Short, because PostgreSQL knows it as well.
        fast_path_rest_s: Seconds for which Redis is left alone after it failed.
        key_prefix: First part of the keys in Redis.

    Raises:
        ValueError: A value makes no sense; the text names it.
    """

    consumer: str
    check_payload: bool = False
    store_down: StoreDownPolicy = "pause"
    claim_timeout_s: float = 30.0
    fast_path_ttl_s: int = 24 * 3600
    fast_path_timeout_s: float = 1.0
    fast_path_rest_s: float = 5.0
    key_prefix: str = "huleedu:inbox:v1"

    def __post_init__(self) -> None:
        if not 0 < len(self.consumer) <= CONSUMER_LENGTH:
            raise ValueError(f"consumer must have 1 to {CONSUMER_LENGTH} characters, got {self.consumer!r}")
        check_store_down_policy(self.store_down)
        positive(**values_of(self, "claim_timeout_s", "fast_path_ttl_s", "fast_path_timeout_s", "fast_path_rest_s"))
