"""How a service uses idempotency: keys, times to live, and what becomes of an event in a doubtful case.

Services build an `IdempotencyConfig` for each consumer. Knows no Redis and no record.
"""

from typing import Literal

from huleedu_service_libs._checks import positive
from huleedu_service_libs.idempotency_v2.records import DEFAULT_PROCESSING_TTL_SECONDS
from huleedu_service_libs.store_policy import StoreDownPolicy, check_store_down_policy

__all__ = [
    "DEFAULT_EVENT_TYPE_TTLS",
    "DEFAULT_TTL_SECONDS",
    "DEFAULT_WAIT_TIMEOUT_SECONDS",
    "IdempotencyConfig",
    "InProgressPolicy",
    "UnconfirmedPolicy",
]

DEFAULT_TTL_SECONDS = 86400
DEFAULT_WAIT_TIMEOUT_SECONDS = 60.0

_HOUR = 3600
DEFAULT_EVENT_TYPE_TTLS: dict[str, int] = {
    "huleedu.essay.spellcheck.requested.v1": _HOUR,
    "huleedu.essay.spellcheck.completed.v1": _HOUR,
    "huleedu.file.essay.content.provisioned.v1": _HOUR,
    "huleedu.file.essay.validation.failed.v1": _HOUR,
    "huleedu.batch.essays.registered.v1": 12 * _HOUR,
    "huleedu.els.batch.essays.ready.v1": 12 * _HOUR,
    "huleedu.els.batch.phase.outcome.v1": 12 * _HOUR,
    "huleedu.cj_assessment.completed.v1": 24 * _HOUR,
    "huleedu.batch.cj_assessment.initiate.command.v1": 24 * _HOUR,
    "huleedu.batch.spellcheck.initiate.command.v1": 24 * _HOUR,
    "huleedu.result_aggregator.batch.completed.v1": 72 * _HOUR,
    "huleedu.result_aggregator.class.summary.updated.v1": 72 * _HOUR,
}
"""Seconds for which a processed event is remembered, for each event type."""

InProgressPolicy = Literal["skip", "wait", "raise"]
_POLICIES = ("skip", "wait", "raise")

UnconfirmedPolicy = Literal["keep", "release"]
_UNCONFIRMED = ("keep", "release")
_SHORTEST_PROCESSING_TTL = 2


class IdempotencyConfig:
    """How one service recognises events that it has processed.

    Args:
        service_name: Part of every key: services process the same event independently.
        event_type_ttls: Seconds for which a processed event is remembered, by event type;
            replaces the default table as a whole.
        default_ttl: Seconds for all other event types.
        key_prefix: First part of every key.
        enable_debug_logging: Log the undisturbed course of each event as well, at debug.
        in_progress: What becomes of an event that another worker is processing. ``skip`` returns
            ``None``, as for a duplicate: if the other then dies, the event is lost once the
            offset is committed. ``wait`` waits for the other's outcome, and ``raise`` raises
            `EventInProgressError` at once, so that the consumer does not commit.
        wait_timeout_seconds: How long ``wait`` waits before it raises `EventInProgressError`. Longer than a handler may take by
            default (`ConsumerConfig.handler_timeout_s`), so that mostly the other's outcome is there.
        store_down: What becomes of an event while Redis does not answer. ``process``, the services' rule, runs the handler
            unprotected; ``pause`` and ``dead-letter`` raise `StoreDownError`, and the handler does not run.
        unconfirmed: What becomes of the claim of a handler that returns without confirming. ``keep``
            leaves it for ``processing_ttl``, ``release`` gives the event back at once, so that the next delivery runs.
        processing_ttl: Seconds after which the claim of a worker that has died is free: so long its event waits.
            Three times in it the claim of a running handler is renewed; a process whose event loop stands still for
            longer loses its claims. Clients that cannot run scripts cannot renew: with them it is 300 s.

    Raises:
        ValueError: Unknown ``in_progress``, ``store_down`` or ``unconfirmed``, a time that is not positive, or a
            ``processing_ttl`` that is no whole number from 2 to 300.
    """

    def __init__(
        self,
        service_name: str,
        event_type_ttls: dict[str, int] | None = None,
        default_ttl: int = DEFAULT_TTL_SECONDS,
        key_prefix: str = "huleedu:idempotency:v2",
        enable_debug_logging: bool = False,  # noqa: FBT001, FBT002  # the services' signature
        *,
        in_progress: InProgressPolicy = "skip",
        wait_timeout_seconds: float = DEFAULT_WAIT_TIMEOUT_SECONDS,
        store_down: StoreDownPolicy = "process",
        unconfirmed: UnconfirmedPolicy = "keep",
        processing_ttl: int = DEFAULT_PROCESSING_TTL_SECONDS,
    ) -> None:
        if in_progress not in _POLICIES:
            raise ValueError(f"in_progress must be one of {', '.join(_POLICIES)}, got {in_progress!r}")
        check_store_down_policy(store_down)
        if unconfirmed not in _UNCONFIRMED:
            raise ValueError(f"unconfirmed must be one of {', '.join(_UNCONFIRMED)}, got {unconfirmed!r}")
        positive(wait_timeout_seconds=wait_timeout_seconds)
        if not isinstance(processing_ttl, int):  # Redis would refuse it, and every event run unprotected
            raise ValueError(f"processing_ttl must be whole seconds, got {processing_ttl!r}")  # noqa: TRY004  # as for all values
        if not _SHORTEST_PROCESSING_TTL <= processing_ttl <= DEFAULT_PROCESSING_TTL_SECONDS:
            raise ValueError(
                f"processing_ttl must be from {_SHORTEST_PROCESSING_TTL} to {DEFAULT_PROCESSING_TTL_SECONDS} s, got "
                f"{processing_ttl!r}: readers of other releases take a claim of {DEFAULT_PROCESSING_TTL_SECONDS} s for dead"
            )
        self.service_name = service_name
        self.event_type_ttls = event_type_ttls or dict(DEFAULT_EVENT_TYPE_TTLS)
        self.default_ttl = default_ttl
        self.key_prefix = key_prefix
        self.enable_debug_logging = enable_debug_logging
        self.in_progress: InProgressPolicy = in_progress
        self.wait_timeout_seconds = wait_timeout_seconds
        self.store_down: StoreDownPolicy = store_down
        self.unconfirmed: UnconfirmedPolicy = unconfirmed
        self.processing_ttl = processing_ttl

    def get_ttl_for_event_type(self, event_type: str) -> int:
        """Seconds for which a processed event of this type is remembered."""
        return self.event_type_ttls.get(event_type, self.default_ttl)

    def generate_redis_key(self, event_type: str, event_id: str, deterministic_hash: str) -> str:  # noqa: ARG002  # the services' signature
        """The key of an event; ``event_id`` has no influence, the hash stands for it.

        Args:
            event_type: Its dots become underscores.
            event_id: Not used.
            deterministic_hash: What `generate_deterministic_event_id` makes of the message.
        """
        return f"{self.key_prefix}:{self.service_name}:{event_type.replace('.', '_')}:{deterministic_hash}"

    def __repr__(self) -> str:
        return f"IdempotencyConfig(service_name={self.service_name!r}, in_progress={self.in_progress!r})"
