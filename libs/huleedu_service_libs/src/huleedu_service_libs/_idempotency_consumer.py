"""The course of one delivery: identify, claim, run, confirm or release.

``idempotency_v2`` is the way in. What is decided from a stored record stands in
``_idempotency_records``, what is asked of Redis in ``_idempotency_claim``.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from huleedu_service_libs import _clock, _metrics
from huleedu_service_libs._idempotency_claim import Claim, OwnerScripts, StoreError
from huleedu_service_libs._idempotency_identity import EventIdentity, header_texts, identify
from huleedu_service_libs._idempotency_records import (
    DEFAULT_PROCESSING_TTL_SECONDS,
    IdempotencyConfig,
    Standing,
    Verdict,
    judge,
)
from huleedu_service_libs.logging_utils import create_service_logger, log_context
from huleedu_service_libs.observability import use_trace_context
from huleedu_service_libs.protocols import RedisClientProtocol

__all__ = ["Consumer", "EventInProgressError", "Run"]

_T = TypeVar("_T")

Confirm = Callable[[], Awaitable[None]]
Run = Callable[[Confirm], Awaitable[_T]]
"""Calls the handler with what it confirms with."""

_RENEWAL_SECONDS = DEFAULT_PROCESSING_TTL_SECONDS / 3
_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0
_SHOWN_DIGEST_DIGITS = 16

logger = create_service_logger("huleedu_service_libs.idempotency_v2")

_EVENTS = _metrics.counter(
    "idempotency_events_total", "Deliveries by what idempotency made of them", ("service", "outcome")
)
_FAIL_OPEN = _metrics.counter(
    "idempotency_fail_open_total", "Deliveries processed without protection", ("service", "reason")
)
_ERRORS = _metrics.counter(
    "idempotency_errors_total", "Claims that could not be renewed, confirmed or released", ("service", "kind")
)


class EventInProgressError(Exception):
    """Another worker is processing the event; do not commit the offset, deliver it again later.

    Attributes:
        event_id: The event, ``None`` when the producer gave it no id.
        key: Its key in Redis.
        owner: Who is processing it, as far as its record says.
    """

    def __init__(self, *, event_id: str | None, key: str, owner: str | None) -> None:
        super().__init__(event_id, key, owner)
        self.event_id = event_id
        self.key = key
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (self.event_id, self.key, self.owner)

    def __str__(self) -> str:
        return (
            f"Event {self.event_id} is being processed by {self.owner or 'another worker'} (key {self.key}); "
            "leave the offset uncommitted and deliver it again"
        )


def _rebuild_error(event_id: str | None, key: str, owner: str | None) -> EventInProgressError:
    return EventInProgressError(event_id=event_id, key=key, owner=owner)


@dataclass(slots=True, kw_only=True)
class _Delivery:
    """One message on its way through, and what log lines say of it."""

    msg: Any
    identity: EventIdentity
    claim: Claim
    service: str

    def fields(self, action: str, **more: Any) -> dict[str, Any]:
        identity = self.identity
        return {
            "service": self.service,
            "event_type": identity.event_type,
            "event_id": identity.event_id,
            "correlation_id": identity.correlation_id,
            "source_service": identity.source_service,
            "deterministic_hash": identity.digest[:_SHOWN_DIGEST_DIGITS],
            "redis_key": self.claim.key,
            "headers_used": not identity.body_parsed,
            "json_parsed": identity.body_parsed,
            "action": action,
            **_position(self.msg),
            **more,
        }


def _position(msg: Any) -> dict[str, Any]:
    return {f"kafka_{name}": getattr(msg, name, None) for name in ("topic", "partition", "offset")}


def _error_fields(error: BaseException) -> dict[str, str]:
    return {"error": str(error), "error_type": type(error).__name__}


async def _confirm_nothing() -> None:
    """What a handler without protection confirms."""


class Consumer:
    """The course of a delivery: identify, claim, run, confirm or release."""

    def __init__(
        self,
        redis: RedisClientProtocol,
        config: IdempotencyConfig,
        *,
        now: _clock.Now,
        clock: _clock.Clock,
        sleep: _clock.Sleep,
    ) -> None:
        self._redis = redis
        self._config = config
        self._scripts = OwnerScripts(redis)
        self._now = now
        self._clock = clock
        self._sleep = sleep

    def _epoch(self) -> float:
        return self._now().timestamp()

    async def consume(self, msg: Any, run: Run[_T]) -> _T | None:
        """Run the handler if the event is to be processed; its result, else ``None``.

        Raises:
            EventInProgressError: As the configuration says.
            Exception: Whatever the handler raises.
        """
        identity = self._identify(msg)
        # Handlers run outside of every `except`: an error of ours is not the context of theirs.
        if identity is None:
            with use_trace_context(dict(header_texts(msg))):
                return await run(_confirm_nothing)
        with _context_of(identity):
            delivery = self._delivery(msg, identity)
            claimed = await self._claim_or_fail_open(delivery)
            if claimed is None:
                return await run(_confirm_nothing)
            return await self._run_claimed(delivery, run) if claimed else None

    def _identify(self, msg: Any) -> EventIdentity | None:
        try:
            return identify(msg)
        except ValueError as error:
            failure = _error_fields(error)
        self._count_fail_open("undecodable_body")
        logger.error(
            "INVALID_JSON: processing without protection",
            service=self._config.service_name,
            action="fail_open",
            **_position(msg),
            **failure,
        )
        return None

    def _delivery(self, msg: Any, identity: EventIdentity) -> _Delivery:
        config = self._config
        key = config.generate_redis_key(identity.event_type, identity.event_id or "", identity.digest)
        claim = Claim(
            self._redis,
            self._scripts,
            key=key,
            service_name=config.service_name,
            identity=identity,
            now=self._epoch,
        )
        return _Delivery(msg=msg, identity=identity, claim=claim, service=config.service_name)

    # --- claiming

    async def _claim_or_fail_open(self, delivery: _Delivery) -> bool | None:
        """Whether the event is ours to process; ``None`` when Redis could not say."""
        try:
            return await self._claim(delivery)
        except StoreError as error:
            operation, failure = error.operation, _error_fields(error.__cause__ or error)
        self._count_fail_open(f"redis_{operation}")
        logger.error("REDIS_ERROR: processing without protection", **delivery.fields("fail_open", **failure))
        return None

    async def _claim(self, delivery: _Delivery) -> bool:
        """Whether the event is ours to process."""
        deadline: float | None = None
        pause = _FIRST_POLL_SECONDS
        while True:
            verdict = await self._try_claim(delivery)
            if verdict.standing is not Standing.IN_PROGRESS:
                return verdict.standing is Standing.OURS
            deadline = self._clock() + self._config.wait_timeout_seconds if deadline is None else deadline
            if not await self._may_wait(delivery, verdict, deadline):
                return False
            await self._sleep(min(pause, deadline - self._clock()))
            pause = min(2 * pause, _LONGEST_POLL_SECONDS)

    async def _try_claim(self, delivery: _Delivery) -> Verdict:
        claim = delivery.claim
        stored = await claim.read()
        verdict = judge(stored, now=self._epoch(), token=claim.token)
        if verdict.standing is Standing.STALE and stored is not None:
            logger.warning(
                "STALE_PROCESSING_DETECTED: taking the event over",
                **delivery.fields("retry", owner=verdict.owner, stale_duration_seconds=verdict.age_seconds),
            )
            await claim.discard(stored)
        elif verdict.standing is not Standing.UNKNOWN:
            if verdict.standing is Standing.COMPLETED:
                self._count("duplicate")
                logger.info("DUPLICATE_EVENT_DETECTED: processed before", **delivery.fields("skip"))
            return verdict
        if await claim.take():
            return Verdict(standing=Standing.OURS, owner=claim.token)
        logger.info("RACE_CONDITION_LOST: another worker claimed the event first", **delivery.fields("none"))
        return Verdict(standing=Standing.IN_PROGRESS)

    async def _may_wait(self, delivery: _Delivery, verdict: Verdict, deadline: float) -> bool:
        """Whether to look again later; ``False`` to skip.

        Raises:
            EventInProgressError: Neither.
        """
        policy = self._config.in_progress
        if policy == "wait" and self._clock() < deadline:
            return True
        self._count("in_progress")
        logger.info("DUPLICATE_EVENT_DETECTED: in progress elsewhere", **delivery.fields(policy, owner=verdict.owner))
        if policy == "skip":
            return False
        raise EventInProgressError(
            event_id=delivery.identity.event_id,
            key=delivery.claim.key,
            owner=verdict.owner or await self._present_owner(delivery),
        )

    async def _present_owner(self, delivery: _Delivery) -> str | None:
        try:
            stored = await delivery.claim.read()
        except StoreError:  # only the error's text is the poorer for it
            return None
        return judge(stored, now=self._epoch(), token=delivery.claim.token).owner

    # --- running

    async def _run_claimed(self, delivery: _Delivery, run: Run[_T]) -> _T:
        claim = delivery.claim
        renewal = asyncio.create_task(self._renew(delivery)) if claim.renewable else None
        started = self._clock()

        async def confirm() -> None:
            await _stop(renewal)
            await self._confirm(delivery)

        try:
            result = await run(confirm)
        except asyncio.CancelledError:
            self._count("cancelled")  # the event stays claimed: how far the handler came is unknown
            raise
        except Exception as error:
            await _stop(renewal)
            self._count("failed")
            logger.warning(
                "PROCESSING_FAILED: handler raised",
                **delivery.fields("release", processing_duration_ms=self._since(started), **_error_fields(error)),
            )
            await self._release(delivery)
            raise
        finally:
            await _stop(renewal)
        self._finish(delivery, started)
        return result

    def _finish(self, delivery: _Delivery, started: float) -> None:
        confirmed = delivery.claim.confirmed
        self._count("completed" if confirmed else "unconfirmed")
        if self._config.enable_debug_logging:
            logger.debug(
                "PROCESSING_COMPLETE",
                **delivery.fields("return", confirmed=confirmed, processing_duration_ms=self._since(started)),
            )

    def _since(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 3)

    async def _renew(self, delivery: _Delivery) -> None:
        while True:
            await self._sleep(_RENEWAL_SECONDS)
            try:
                if not await delivery.claim.renew():
                    self._count_error("claim_lost")
                    logger.warning("CLAIM_LOST: another worker may process the event too", **delivery.fields("none"))
                    return
            except StoreError as error:  # the next renewal comes while the claim still lives
                self._count_error("renewal_failed")
                logger.warning("REDIS_ERROR: claim not renewed", **delivery.fields("retry", **_error_fields(error)))

    async def _confirm(self, delivery: _Delivery) -> None:
        if delivery.claim.confirmed:
            return
        ttl_seconds = self._config.get_ttl_for_event_type(delivery.identity.event_type)
        failure = {"error": "the claim is another worker's by now", "error_type": "ClaimLost"}
        try:
            written = await delivery.claim.confirm(ttl_seconds)
        except StoreError as error:
            written, failure = False, _error_fields(error.__cause__ or error)
        if not written:
            self._count_error("confirmation_failed")
            logger.error(
                "CONFIRMATION_FAILED: a redelivery may repeat the event",
                **delivery.fields("none", ttl_seconds=ttl_seconds, **failure),
            )
        elif self._config.enable_debug_logging:
            logger.debug("IDEMPOTENCY_CONFIRMED", **delivery.fields("none", ttl_seconds=ttl_seconds))

    async def _release(self, delivery: _Delivery) -> None:
        if delivery.claim.confirmed:
            return  # the handler's effect is committed: giving the event back would repeat it
        failure = {"error": "the claim is another worker's by now", "error_type": "ClaimLost"}
        try:
            released = await delivery.claim.release()
        except StoreError as error:
            released, failure = False, _error_fields(error.__cause__ or error)
        if not released:
            self._count_error("release_failed")
            logger.error("CLEANUP_FAILED: the event was not given back", **delivery.fields("none", **failure))
        elif self._config.enable_debug_logging:
            logger.debug("CLEANUP_SUCCESS", **delivery.fields("none"))

    # --- counting

    def _count(self, outcome: str) -> None:
        _EVENTS.labels(service=self._config.service_name, outcome=outcome).inc()

    def _count_error(self, kind: str) -> None:
        _ERRORS.labels(service=self._config.service_name, kind=kind).inc()

    def _count_fail_open(self, reason: str) -> None:
        self._count("fail_open")
        _FAIL_OPEN.labels(service=self._config.service_name, reason=reason).inc()


async def _stop(task: asyncio.Task[None] | None) -> None:
    if task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task])


@contextmanager
def _context_of(identity: EventIdentity) -> Iterator[None]:
    """Make the event's trace current and put its identity on every line logged inside."""
    known = {
        "correlation_id": identity.correlation_id,
        "event_id": identity.event_id,
        "event_type": identity.event_type,
        "source_service": identity.source_service,
    }
    with (
        log_context(**{name: value for name, value in known.items() if value is not None}),
        use_trace_context(identity.trace_carrier),
    ):
        yield
