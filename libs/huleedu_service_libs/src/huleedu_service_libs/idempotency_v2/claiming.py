"""Whether an event is ours to process: claims it, waits for others, takes over what they left.

``consumer`` asks before it runs a handler. What a stored record means stands in
``records``, how Redis is asked in ``claim``.
"""

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.idempotency_v2.config import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.delivery import Delivery, Tally
from huleedu_service_libs.idempotency_v2.errors import EventInProgressError, StoreError
from huleedu_service_libs.idempotency_v2.records import Standing, Verdict, judge
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Claimer"]

_FIRST_POLL_S = 0.05
_LONGEST_POLL_S = 1.0

logger = create_service_logger("huleedu_service_libs.idempotency_v2")


class Claimer:
    """Claims the events of one handler.

    Args:
        config: What to do with an event in progress elsewhere.
        tally: Counts.
        now: Time of day.
        clock: Monotonic seconds.
        sleep: Waits.
    """

    def __init__(
        self, config: IdempotencyConfig, tally: Tally, *, now: _clock.Now, clock: _clock.Clock, sleep: _clock.Sleep
    ) -> None:
        self._config = config
        self._tally = tally
        self._now = now
        self._clock = clock
        self._sleep = sleep

    def _epoch(self) -> float:
        return self._now().timestamp()

    async def claim(self, delivery: Delivery) -> bool:
        """Whether the event is ours to process.

        Raises:
            StoreError: Redis could not say.
            EventInProgressError: As the configuration says.
        """
        deadline: float | None = None
        pause = _FIRST_POLL_S
        while True:
            verdict = await self._try_claim(delivery)
            if verdict.standing is not Standing.IN_PROGRESS:
                return verdict.standing is Standing.OURS
            deadline = self._clock() + self._config.wait_timeout_seconds if deadline is None else deadline
            if not await self._may_wait(delivery, verdict, deadline):
                return False
            await self._sleep(min(pause, deadline - self._clock()))
            pause = min(2 * pause, _LONGEST_POLL_S)

    async def _try_claim(self, delivery: Delivery) -> Verdict:
        claim = delivery.claim
        ours, stored = await claim.open()
        if ours:
            return Verdict(standing=Standing.OURS, owner=claim.token)
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
