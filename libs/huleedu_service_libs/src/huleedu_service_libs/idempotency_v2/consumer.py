"""The course of one delivery: identify, claim, run, confirm or release.

``idempotency_v2`` is the way in. What is decided from a stored record stands in
``records``, what is asked of Redis in ``claim``.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.claim import Claim, OwnerScripts, StoreError
from huleedu_service_libs.idempotency_v2.delivery import Delivery, Tally, context_of, coordinates, position
from huleedu_service_libs.idempotency_v2.errors import EventInProgressError
from huleedu_service_libs.idempotency_v2.identity import EventIdentity, header_texts, identify
from huleedu_service_libs.idempotency_v2.records import (
    IdempotencyConfig,
    Standing,
    Verdict,
    judge,
)
from huleedu_service_libs.idempotency_v2.renewal import Renewal
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability import use_trace_context
from huleedu_service_libs.protocols import RedisClientProtocol

__all__ = ["Consumer", "Run"]

_T = TypeVar("_T")

Confirm = Callable[[], Awaitable[None]]
Run = Callable[[Confirm], Awaitable[_T]]
"""Calls the handler with what it confirms with."""

_FIRST_POLL_SECONDS = 0.05
_LONGEST_POLL_SECONDS = 1.0

logger = create_service_logger("huleedu_service_libs.idempotency_v2")


async def _confirm_nothing() -> None:
    """What a handler without protection confirms."""


class Consumer:
    """Takes deliveries to one handler, any number at the same time.

    Args:
        redis: Keeps the claims.
        config: Keys, times to live, and what to do with an event in progress elsewhere.
        redis_timeout_seconds: How long one call of Redis may take.
        now: Time of day.
        clock: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self,
        redis: RedisClientProtocol,
        config: IdempotencyConfig,
        *,
        redis_timeout_seconds: float,
        now: _clock.Now,
        clock: _clock.Clock,
        sleep: _clock.Sleep,
    ) -> None:
        self._redis = redis
        self._config = config
        self._redis_timeout_seconds = redis_timeout_seconds
        self._scripts = OwnerScripts(redis)
        self._tally = Tally(config.service_name)
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
        with context_of(identity), operation_scope(self._config.service_name, coordinates=coordinates(msg)):
            delivery = self._delivery(msg, identity)
            claimed = await self._claim_or_fail_open(delivery)
            if claimed is None:
                return await run(_confirm_nothing)
            return await self._run_claimed(delivery, run) if claimed else None

    def _identify(self, msg: Any) -> EventIdentity | None:
        try:
            return identify(msg)
        except ValueError as error:
            failure = error_fields(error)
        self._tally.fail_open("undecodable_body")
        logger.error(
            "INVALID_JSON: processing without protection",
            service=self._config.service_name,
            action="fail_open",
            **position(msg),
            **failure,
        )
        return None

    def _delivery(self, msg: Any, identity: EventIdentity) -> Delivery:
        config = self._config
        key = config.generate_redis_key(identity.event_type, identity.event_id or "", identity.digest)
        claim = Claim(
            self._redis,
            self._scripts,
            key=key,
            service_name=config.service_name,
            identity=identity,
            now=self._epoch,
            timeout_seconds=self._redis_timeout_seconds,
        )
        return Delivery(msg=msg, identity=identity, claim=claim, service=config.service_name)

    # --- claiming

    async def _claim_or_fail_open(self, delivery: Delivery) -> bool | None:
        """Whether the event is ours to process; ``None`` when Redis could not say."""
        try:
            return await self._claim(delivery)
        except StoreError as error:
            operation, failure = error.operation, error_fields(error.__cause__ or error)
        self._tally.fail_open(f"redis_{operation}")
        logger.error("REDIS_ERROR: processing without protection", **delivery.fields("fail_open", **failure))
        return None

    async def _claim(self, delivery: Delivery) -> bool:
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

    async def _try_claim(self, delivery: Delivery) -> Verdict:
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
                self._tally.outcome("duplicate")
                logger.info("DUPLICATE_EVENT_DETECTED: processed before", **delivery.fields("skip"))
            return verdict
        if await claim.take():
            return Verdict(standing=Standing.OURS, owner=claim.token)
        logger.info("RACE_CONDITION_LOST: another worker claimed the event first", **delivery.fields("none"))
        return Verdict(standing=Standing.IN_PROGRESS)

    async def _may_wait(self, delivery: Delivery, verdict: Verdict, deadline: float) -> bool:
        """Whether to look again later; ``False`` to skip.

        Raises:
            EventInProgressError: Neither.
        """
        policy = self._config.in_progress
        if policy == "wait" and self._clock() < deadline:
            return True
        self._tally.outcome("in_progress")
        logger.info("DUPLICATE_EVENT_DETECTED: in progress elsewhere", **delivery.fields(policy, owner=verdict.owner))
        if policy == "skip":
            return False
        raise EventInProgressError(
            event_id=delivery.identity.event_id,
            key=delivery.claim.key,
            owner=verdict.owner or await self._present_owner(delivery),
        )

    async def _present_owner(self, delivery: Delivery) -> str | None:
        try:
            stored = await delivery.claim.read()
        except StoreError as error:  # only the text of the caller's error is the poorer for it
            self._tally.error("owner_unknown")
            logger.warning(
                "REDIS_ERROR: owner of the event unknown",
                **delivery.fields("none", **error_fields(error.__cause__ or error)),
            )
            return None
        return judge(stored, now=self._epoch(), token=delivery.claim.token).owner

    # --- running

    async def _run_claimed(self, delivery: Delivery, run: Run[_T]) -> _T:
        claim = delivery.claim
        renewal = Renewal(functools.partial(self._renew, delivery), self._sleep) if claim.renewable else None

        async def stop_renewal() -> None:
            if renewal is not None:
                await renewal.stop()

        started = self._clock()

        async def confirm() -> None:
            await stop_renewal()
            await self._confirm(delivery)

        try:
            result = await run(confirm)
        except asyncio.CancelledError:
            self._tally.outcome("cancelled")  # the event stays claimed: how far the handler came is unknown
            raise
        except Exception as error:
            await stop_renewal()
            self._tally.outcome("failed")
            logger.warning(
                "PROCESSING_FAILED: handler raised",
                **delivery.fields("release", processing_duration_ms=self._since(started), **error_fields(error)),
            )
            await self._release(delivery)
            raise
        finally:
            await stop_renewal()
        self._finish(delivery, started)
        return result

    def _finish(self, delivery: Delivery, started: float) -> None:
        confirmed = delivery.claim.confirmed
        self._tally.outcome("completed" if confirmed else "unconfirmed")
        if self._config.enable_debug_logging:
            logger.debug(
                "PROCESSING_COMPLETE",
                **delivery.fields("return", confirmed=confirmed, processing_duration_ms=self._since(started)),
            )

    def _since(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 3)

    async def _renew(self, delivery: Delivery) -> bool:
        """Renew the claim once; ``False`` when it is lost."""
        try:
            if await delivery.claim.renew():
                return True
        except StoreError as error:  # the next renewal comes while the claim still lives
            self._tally.error("renewal_failed")
            logger.warning(
                "REDIS_ERROR: claim not renewed", **delivery.fields("retry", **error_fields(error.__cause__ or error))
            )
            return True
        self._tally.error("claim_lost")
        logger.warning("CLAIM_LOST: another worker may process the event too", **delivery.fields("none"))
        return False

    async def _confirm(self, delivery: Delivery) -> None:
        if delivery.claim.confirmed:
            return
        ttl_seconds = self._config.get_ttl_for_event_type(delivery.identity.event_type)
        failure = {"error": "the claim is another worker's by now", "error_type": "ClaimLost"}
        try:
            written = await delivery.claim.confirm(ttl_seconds)
        except StoreError as error:
            written, failure = False, error_fields(error.__cause__ or error)
        if not written:
            self._tally.error("confirmation_failed")
            logger.error(
                "CONFIRMATION_FAILED: a redelivery may repeat the event",
                **delivery.fields("none", ttl_seconds=ttl_seconds, **failure),
            )
        elif self._config.enable_debug_logging:
            logger.debug("IDEMPOTENCY_CONFIRMED", **delivery.fields("none", ttl_seconds=ttl_seconds))

    async def _release(self, delivery: Delivery) -> None:
        if delivery.claim.confirmed:
            return  # the handler's effect is committed: giving the event back would repeat it
        failure = {"error": "the claim is another worker's by now", "error_type": "ClaimLost"}
        try:
            released = await delivery.claim.release()
        except StoreError as error:
            released, failure = False, error_fields(error.__cause__ or error)
        if not released:
            self._tally.error("release_failed")
            logger.error("CLEANUP_FAILED: the event was not given back", **delivery.fields("none", **failure))
        elif self._config.enable_debug_logging:
            logger.debug("CLEANUP_SUCCESS", **delivery.fields("none"))
