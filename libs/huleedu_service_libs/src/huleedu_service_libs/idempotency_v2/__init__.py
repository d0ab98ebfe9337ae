"""Runs a handler once for each event, although Kafka delivers at least once.

Services wrap every Kafka handler with `idempotent_consumer`. An event is
claimed in Redis before its handler runs, and confirmed by the handler after
its own commit. Redis only remembers: when it does not answer, the handler runs
unprotected (fail-open), counted and logged. Knows no Kafka client and no Redis
driver; messages and clients are whatever has the few members used here.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs import _clock
from huleedu_service_libs.idempotency_v2.claim import DEFAULT_REDIS_TIMEOUT_SECONDS
from huleedu_service_libs.idempotency_v2.config import (
    DEFAULT_EVENT_TYPE_TTLS,
    DEFAULT_TTL_SECONDS,
    DEFAULT_WAIT_TIMEOUT_SECONDS,
    IdempotencyConfig,
    InProgressPolicy,
    UnconfirmedPolicy,
)
from huleedu_service_libs.idempotency_v2.consumer import Consumer
from huleedu_service_libs.idempotency_v2.errors import EventInProgressError
from huleedu_service_libs.idempotency_v2.records import (
    DEFAULT_PROCESSING_TTL_SECONDS,
    IDEMPOTENCY_STATUS_COMPLETED,
    IDEMPOTENCY_STATUS_PROCESSING,
)
from huleedu_service_libs.idempotency_v2.step import IdempotentStep
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.store_policy import StoreDownError, StoreDownPolicy

__all__ = [
    "DEFAULT_EVENT_TYPE_TTLS",
    "DEFAULT_PROCESSING_TTL_SECONDS",
    "DEFAULT_REDIS_TIMEOUT_SECONDS",
    "DEFAULT_TTL_SECONDS",
    "DEFAULT_WAIT_TIMEOUT_SECONDS",
    "IDEMPOTENCY_STATUS_COMPLETED",
    "IDEMPOTENCY_STATUS_PROCESSING",
    "EventInProgressError",
    "IdempotencyConfig",
    "IdempotentStep",
    "InProgressPolicy",
    "StoreDownError",
    "StoreDownPolicy",
    "UnconfirmedPolicy",
    "idempotent_consumer",
]

_T = TypeVar("_T")
_Handler = Callable[..., Awaitable[_T]]


def idempotent_consumer(
    redis_client: RedisClientProtocol,
    config: IdempotencyConfig,
    *,
    redis_timeout_seconds: float = DEFAULT_REDIS_TIMEOUT_SECONDS,
    now: _clock.Now = _clock.utc_now,
    clock: _clock.Clock = _clock.monotonic,
    sleep: _clock.Sleep = _clock.sleep,
) -> Callable[[_Handler[_T]], Callable[..., Awaitable[_T | None]]]:
    """Make a decorator that runs a handler once for each event.

    The handler is called with the keyword ``confirm_idempotency`` and awaits it after its own
    commit. A handler that raises gives the event back; one that is cancelled, or returns without
    confirming, keeps it claimed for ``processing_ttl`` (300 s), after which a redelivery runs.

    Args:
        redis_client: Keeps claims; only ``get``, ``set_if_not_exists``, ``setex`` and
            ``delete_key`` are needed. With a client whose class can run Lua scripts an event is claimed
            in one round trip, the claim has an owner and is renewed while the handler runs, and a
            call whose answer got lost is repeated.
        config: Keys, times to live, and what to do with an event in progress elsewhere.
        redis_timeout_seconds: How long one call of the client may take; after that Redis counts as
            unreachable.
        now: Time of day; ages of records are judged by it.
        clock: Monotonic seconds.
        sleep: Waits.

    Returns:
        A decorator for ``async def handler(msg, *args, confirm_idempotency, **kwargs)``. What it
        makes returns the handler's result, or ``None`` when the event is skipped, and raises
        what the handler raises, or `EventInProgressError` and `StoreDownError` as ``config.in_progress``
        and ``config.store_down`` say.
    """
    consumer = Consumer(
        redis_client, config, redis_timeout_seconds=redis_timeout_seconds, now=now, clock=clock, sleep=sleep
    )

    def decorate(handler: _Handler[_T]) -> Callable[..., Awaitable[_T | None]]:
        @functools.wraps(handler)
        async def wrapper(msg: Any, *args: Any, **kwargs: Any) -> _T | None:
            async def run(confirm: Callable[[], Awaitable[None]]) -> _T:
                return await handler(msg, *args, confirm_idempotency=confirm, **kwargs)

            return await consumer.consume(msg, run)

        return wrapper

    return decorate
