"""The course of one delivery: identify, claim, run, confirm or release.

``idempotent_consumer`` and ``many`` use it. Whether an event is ours is decided in ``claiming``, its claim is kept and
ended in ``keeping``; what is asked of Redis stands in ``claim``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.claim import ATTEMPTS, Claim
from huleedu_service_libs.idempotency_v2.claiming import Claimer
from huleedu_service_libs.idempotency_v2.config import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.delivery import Delivery, Tally, context_of, coordinates, position
from huleedu_service_libs.idempotency_v2.errors import StoreError
from huleedu_service_libs.idempotency_v2.identity import EventIdentity, header_texts, identify
from huleedu_service_libs.idempotency_v2.keeping import ClaimKeeper
from huleedu_service_libs.idempotency_v2.script_runner import ScriptRunner
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability import use_trace_context
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.store_policy import StoreDownError

__all__ = ["Consumer", "Run"]

_T = TypeVar("_T")

Confirm = Callable[[], Awaitable[None]]
Run = Callable[[Confirm], Awaitable[_T]]
"""Calls the handler with what it confirms with."""

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
        self._scripts = ScriptRunner(redis, timeout_s=redis_timeout_seconds / ATTEMPTS)
        self._tally = Tally(config.service_name)
        self._claimer = Claimer(config, self._tally, now=now, clock=clock, sleep=sleep)
        self._now = now
        self._clock = clock
        self._keeper = ClaimKeeper(config, self._tally, sleep=sleep)

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
            timeout_s=self._redis_timeout_seconds,
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
            await self._keeper.settle(delivery, processed=False)
            raise
        failure = error_fields(down.__cause__ or down)
        policy = self._config.store_down
        if policy == "process":
            self._tally.fail_open(f"redis_{down.operation}")
            logger.error("REDIS_ERROR: processing without protection", **delivery.fields("fail_open", **failure))
            return None
        self._tally.outcome("store_down")
        logger.error("REDIS_ERROR: not processed", **delivery.fields(policy, **failure))
        await self._keeper.settle(delivery, processed=False)
        raise StoreDownError(
            store="redis", operation=down.operation, policy=policy, reason=failure["error"]
        ) from down.__cause__

    # --- running

    async def _run_unprotected(self, delivery: Delivery, run: Run[_T]) -> _T:
        """Run the handler without a claim, or with one whose answer got lost: it must not block a redelivery."""

        async def confirm() -> None:
            if not delivery.claim.confirmed:
                await self._keeper.settle(delivery, processed=True)

        try:
            return await run(confirm)
        except Exception:
            if not delivery.claim.confirmed:
                await self._keeper.settle(delivery, processed=False)
            raise

    async def _run_claimed(self, delivery: Delivery, run: Run[_T], *, to_be_concluded: bool = False) -> _T:
        self._keeper.hold(delivery)
        started, returned = self._clock(), False

        async def confirm() -> None:
            await self._keeper.confirm(delivery)

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
            await self._keeper.release(delivery)
            raise
        else:
            returned = True
        finally:
            if not (returned and to_be_concluded):
                self._keeper.let_go(delivery)
        if not to_be_concluded:
            await self._finish(delivery, started)
        return result

    async def _finish(self, delivery: Delivery, started: float) -> None:
        confirmed = delivery.claim.confirmed
        self._tally.outcome("completed" if confirmed else "unconfirmed")
        if not confirmed and self._config.unconfirmed == "release":
            await self._keeper.release(delivery)
        if self._config.enable_debug_logging:
            logger.debug(
                "PROCESSING_COMPLETE",
                **delivery.fields("return", confirmed=confirmed, processing_duration_ms=self._since(started)),
            )

    def _since(self, started: float) -> float:
        return round((self._clock() - started) * 1000, 3)
