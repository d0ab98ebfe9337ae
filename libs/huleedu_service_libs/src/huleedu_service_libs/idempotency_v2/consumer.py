"""The course of one delivery: identify, claim, run, confirm or release.

``idempotency_v2`` is the way in. Whether an event is ours is decided in
``claiming``, what is asked of Redis stands in ``claim``.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.claim import ATTEMPTS, Claim, StoreError
from huleedu_service_libs.idempotency_v2.claiming import Claimer
from huleedu_service_libs.idempotency_v2.delivery import Delivery, Tally, context_of, coordinates, position
from huleedu_service_libs.idempotency_v2.identity import EventIdentity, header_texts, identify
from huleedu_service_libs.idempotency_v2.records import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.renewal import Renewals
from huleedu_service_libs.idempotency_v2.scripts import OwnerScripts
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability import use_trace_context
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.store_policy import StoreDownError

__all__ = ["Consumer", "Run"]

_T = TypeVar("_T")

Confirm = Callable[[], Awaitable[None]]
Run = Callable[[Confirm], Awaitable[_T]]
"""Calls the handler with what it confirms with."""

_SETTLE_SECONDS = 1.0
"""How long the end of a delivery may be held up to settle a claim of which nobody knows whether it exists."""

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
        self._scripts = OwnerScripts(redis, timeout_seconds=redis_timeout_seconds / ATTEMPTS)
        self._tally = Tally(config.service_name)
        self._claimer = Claimer(config, self._tally, now=now, clock=clock, sleep=sleep)
        self._now = now
        self._clock = clock
        self._renewals = Renewals(sleep, ttl_seconds=config.processing_ttl)

    def _epoch(self) -> float:
        return self._now().timestamp()

    async def consume(self, msg: Any, run: Run[_T]) -> _T | None:
        """Run the handler if the event is to be processed; its result, else ``None``.

        Raises:
            EventInProgressError: As the configuration says.
            StoreDownError: The same.
            Exception: Whatever the handler raises.
        """
        identity = self._identify(msg)
        # Handlers run outside of every `except`: an error of ours is not the context of theirs.
        if identity is None:
            with use_trace_context(dict(header_texts(msg))):
                return await run(_confirm_nothing)
        with context_of(identity, msg), operation_scope(self._config.service_name, coordinates=coordinates(msg)):
            delivery = self._delivery(msg, identity)
            claimed = await self._claim_or_fail_open(delivery)
            if claimed is None:
                return await self._run_unprotected(delivery, run)
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
            ttl_seconds=config.processing_ttl,
        )
        return Delivery(msg=msg, identity=identity, claim=claim, service=config.service_name)

    # --- claiming

    async def _claim_or_fail_open(self, delivery: Delivery) -> bool | None:
        """Whether the event is ours to process; ``None`` to run unprotected, because Redis could not say."""
        try:
            return await self._claimer.claim(delivery)
        except StoreError as error:
            down = error
        except asyncio.CancelledError:
            # The handler has not begun: whoever gets the event next need not wait for a claim of nobody.
            delivery.claim.uncertain = True
            await self._settle(delivery, processed=False)
            raise
        failure = error_fields(down.__cause__ or down)
        policy = self._config.store_down
        if policy == "process":
            self._tally.fail_open(f"redis_{down.operation}")
            logger.error("REDIS_ERROR: processing without protection", **delivery.fields("fail_open", **failure))
            return None
        self._tally.outcome("store_down")
        logger.error("REDIS_ERROR: not processed", **delivery.fields(policy, **failure))
        await self._settle(delivery, processed=False)
        raise StoreDownError(
            store="redis", operation=down.operation, policy=policy, reason=failure["error"]
        ) from down.__cause__

    async def _settle(self, delivery: Delivery, *, processed: bool) -> None:
        """Confirm or release a claim of which it is unknown whether it exists, if Redis answers at once."""
        ttl_seconds = self._config.get_ttl_for_event_type(delivery.identity.event_type)
        settled = await delivery.claim.settle(
            processed=processed, ttl_seconds=ttl_seconds, limit_seconds=_SETTLE_SECONDS
        )
        if not settled:  # the line about Redis is written already
            self._tally.error("unsettled")

    # --- running

    async def _run_unprotected(self, delivery: Delivery, run: Run[_T]) -> _T:
        """Run the handler without a claim, or with one whose answer got lost: it must not block a redelivery."""

        async def confirm() -> None:
            if not delivery.claim.confirmed:
                await self._settle(delivery, processed=True)

        try:
            return await run(confirm)
        except Exception:
            if not delivery.claim.confirmed:
                await self._settle(delivery, processed=False)
            raise

    async def _run_claimed(self, delivery: Delivery, run: Run[_T], *, to_be_concluded: bool = False) -> _T:
        claim = delivery.claim
        if claim.renewable:
            self._renewals.hold(claim.token, functools.partial(self._renew, delivery))
        started, returned = self._clock(), False

        async def confirm() -> None:
            self._renewals.drop(claim.token)
            await self._confirm(delivery)

        try:
            result = await run(confirm)
        except asyncio.CancelledError:
            self._tally.outcome("cancelled")  # the event stays claimed: how far the handler came is unknown
            raise
        except Exception as error:
            self._tally.outcome("failed")
            logger.warning(
                "PROCESSING_FAILED: handler raised",
                **delivery.fields("release", processing_duration_ms=self._since(started), **error_fields(error)),
            )
            await self._release(delivery)
            raise
        else:
            returned = True
        finally:
            if not (returned and to_be_concluded):
                self._renewals.drop(claim.token)
        if not to_be_concluded:
            await self._finish(delivery, started)
        return result

    async def _finish(self, delivery: Delivery, started: float) -> None:
        confirmed = delivery.claim.confirmed
        self._tally.outcome("completed" if confirmed else "unconfirmed")
        if not confirmed and self._config.unconfirmed == "release":
            await self._release(delivery)
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
        if not self._renewals.holds(delivery.claim.token):
            return False  # confirmed or given back meanwhile
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
        self._renewals.drop(delivery.claim.token)
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
