"""What `idempotent_consumer` does, as a step in front of the handlers of a consumer (``kafka.consumer``).

Knows no Kafka client and not the consumer: what a step is given has a ``record``, and what it calls
takes keywords.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Protocol

from huleedu_service_libs import _clock
from huleedu_service_libs.idempotency_v2.claim import DEFAULT_REDIS_TIMEOUT_SECONDS
from huleedu_service_libs.idempotency_v2.config import IdempotencyConfig
from huleedu_service_libs.idempotency_v2.many import ManyConsumer, Passage
from huleedu_service_libs.protocols import RedisClientProtocol

__all__ = ["IdempotentStep"]

_Proceed = Callable[..., Awaitable[None]]


class _HasRecord(Protocol):
    @property
    def record(self) -> Any:
        """The message."""
        ...


class IdempotentStep:
    """Runs handlers once for each event: claimed before, confirmed when the handler has returned.

    A handler with a parameter ``confirm_idempotency`` may confirm earlier, right after its commit.

    Args:
        redis_client: Keeps claims.
        config: Keys, times to live, and what to do with an event in progress elsewhere (``wait`` or ``raise``)
            and while Redis does not answer.
        redis_timeout_seconds: How long one call of the client may take.
        now: Time of day.
        clock: Monotonic seconds.
        sleep: Waits.

    Raises:
        ValueError: The configuration says ``skip``.
    """

    offers: ClassVar = frozenset({"confirm_idempotency"})
    """Parameters of handlers that it fills; the consumer refuses a handler with one that nothing fills."""

    def __init__(
        self,
        redis_client: RedisClientProtocol,
        config: IdempotencyConfig,
        *,
        redis_timeout_seconds: float = DEFAULT_REDIS_TIMEOUT_SECONDS,
        now: _clock.Now = _clock.utc_now,
        clock: _clock.Clock = _clock.monotonic,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        if config.in_progress == "skip":
            raise ValueError(
                "in_progress='skip' would commit the offset of an event that another worker may still fail to "
                "process: give the step an IdempotencyConfig with in_progress='wait' (or 'raise')"
            )
        self._consumer = ManyConsumer(
            redis_client, config, redis_timeout_seconds=redis_timeout_seconds, now=now, clock=clock, sleep=sleep
        )

    async def process(self, delivery: _HasRecord, proceed: _Proceed) -> None:
        """Let the event through unless it was processed before.

        Raises:
            EventInProgressError: Another worker has it.
            StoreDownError: Redis does not answer, and the configuration says to wait or to set the event aside.
            Exception: What the handler raises.
        """

        async def run(confirm: Callable[[], Awaitable[None]]) -> None:
            await proceed(confirm_idempotency=confirm)
            await confirm()

        await self._consumer.consume(delivery.record, run)

    async def admit(self, deliveries: Sequence[_HasRecord]) -> Sequence[Passage]:
        """Claim many events in one command. Raises for none."""
        return await self._consumer.admit([delivery.record for delivery in deliveries])

    async def pass_through(self, passage: Passage, proceed: _Proceed) -> None:
        """As `process`, for an event that was admitted; confirmed by `conclude`."""

        async def run(confirm: Callable[[], Awaitable[None]]) -> None:
            await proceed(confirm_idempotency=confirm)

        await self._consumer.pass_through(passage, run)

    async def conclude(self, passages: Sequence[Passage]) -> None:
        """Confirm the events whose handlers have returned, in one command. Raises for none."""
        await self._consumer.conclude(passages)

    async def abandon(self, passage: Passage) -> None:
        """Give back an event whose handler will not run."""
        await self._consumer.abandon(passage)
