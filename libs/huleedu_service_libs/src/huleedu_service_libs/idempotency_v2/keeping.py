"""Keeps the claims of deliveries while their handlers run, and ends them: renew, confirm, release, settle.

``consumer`` says which of these a delivery needs. Nothing is raised: what Redis refuses is counted and told. Whether an
event is claimed at all is ``claiming``'s, how Redis is asked ``claim``'s.
"""

import functools

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.idempotency_v2.config import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.delivery import Delivery, Tally
from huleedu_service_libs.idempotency_v2.errors import StoreError
from huleedu_service_libs.idempotency_v2.renewal import Renewals
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["ClaimKeeper"]

_SETTLE_S = 1.0
"""How long the end of a delivery may be held up to settle a claim of which nobody knows whether it exists."""

_LOST = {"error": "the claim is another worker's by now", "error_type": "ClaimLost"}

logger = create_service_logger("huleedu_service_libs.idempotency_v2")


class ClaimKeeper:
    """Keeps the claims of one handler, any number at the same time.

    Args:
        config: Times to live, and whether the undisturbed course is logged.
        tally: Counts.
        sleep: Waits between renewals.
    """

    def __init__(self, config: IdempotencyConfig, tally: Tally, *, sleep: _clock.Sleep) -> None:
        self._config = config
        self._tally = tally
        self._renewals = Renewals(sleep, ttl_seconds=config.processing_ttl)

    def hold(self, delivery: Delivery) -> None:
        """Renew the claim from now on, where that is possible."""
        if delivery.claim.renewable:
            self._renewals.hold(delivery.claim.token, functools.partial(self._renew, delivery))

    def let_go(self, delivery: Delivery) -> None:
        """Renew the claim no longer. Idempotent."""
        self._renewals.drop(delivery.claim.token)

    async def confirm(self, delivery: Delivery) -> None:
        """Record that the event is processed."""
        self.let_go(delivery)
        if delivery.claim.confirmed:
            return
        ttl_seconds = self._config.get_ttl_for_event_type(delivery.identity.event_type)
        failure = _LOST
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

    async def release(self, delivery: Delivery) -> None:
        """Give the event back, unless it is recorded as processed."""
        self.let_go(delivery)
        if delivery.claim.confirmed:
            return  # the handler's effect is committed: giving the event back would repeat it
        failure = _LOST
        try:
            released = await delivery.claim.release()
        except StoreError as error:
            released, failure = False, error_fields(error.__cause__ or error)
        if not released:
            self._tally.error("release_failed")
            logger.error("CLEANUP_FAILED: the event was not given back", **delivery.fields("none", **failure))
        elif self._config.enable_debug_logging:
            logger.debug("CLEANUP_SUCCESS", **delivery.fields("none"))

    async def settle(self, delivery: Delivery, *, processed: bool) -> None:
        """Confirm or release a claim of which it is unknown whether it exists, if Redis answers at once."""
        ttl_seconds = self._config.get_ttl_for_event_type(delivery.identity.event_type)
        settled = await delivery.claim.settle(processed=processed, ttl_seconds=ttl_seconds, limit_seconds=_SETTLE_S)
        if not settled:  # the line about Redis is written already
            self._tally.error("unsettled")

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
