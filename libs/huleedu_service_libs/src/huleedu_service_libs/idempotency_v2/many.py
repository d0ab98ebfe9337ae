"""Many deliveries at once: claimed in one round trip, run each by itself, confirmed in one round trip.

`IdempotentStep` uses it. What a claim, a failure or a store that is down means is decided in
``consumer``, for one as for many.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2.consumer import Consumer, Run
from huleedu_service_libs.idempotency_v2.delivery import Delivery, coordinates
from huleedu_service_libs.idempotency_v2.script_runner import Answer
from huleedu_service_libs.idempotency_v2.scripts import CLAIM, CONFIRM

__all__ = ["ManyConsumer", "Passage"]


@dataclass(slots=True, eq=False)
class Passage:
    """One delivery on its way.

    Attributes:
        msg: The message.
        delivery: With its claim; ``None`` when nobody knows which event it is.
        claimed: Whether the handler ran under the claim (``True``), unprotected (``None``) or not (``False``).
        began_s: When the handler began, monotonic seconds.
    """

    msg: Any
    delivery: Delivery | None
    claimed: bool | None = False
    began_s: float = 0.0


class ManyConsumer(Consumer):
    """Takes deliveries one by one, as `Consumer` does, or many together."""

    async def admit(self, msgs: Sequence[Any]) -> list[Passage]:
        """Claim many events in one round trip; raises for none, what was not claimed so is claimed on its own."""
        passages = [Passage(msg, self._prepared(msg)) for msg in msgs]
        claims = [passage.delivery.claim for passage in passages if passage.delivery is not None]
        asked = [part for claim in claims for part in claim.asks_to_claim()]
        try:
            answers = await self._scripts.run_many(CLAIM, [claim.key for claim in claims], asked)
        except asyncio.CancelledError:
            await asyncio.gather(*(self.abandon(passage) for passage in passages))
            raise
        except Exception:  # noqa: BLE001  # each asks again by itself, and tells what it finds
            return passages
        for claim, answer in zip(claims, answers or [None] * len(claims), strict=True):
            claim.tell(answer)
        return passages

    async def pass_through(self, passage: Passage, run: Run[Any]) -> None:
        """Run the handler if the event is to be processed; what it did is confirmed by `conclude`.

        The event's fields and trace are the caller's business.

        Raises:
            EventInProgressError: As the configuration says.
            StoreDownError: The same.
            Exception: Whatever the handler raises.
        """
        delivery = passage.delivery
        if delivery is None:
            await self.consume(passage.msg, run)
            return
        with operation_scope(self._config.service_name, coordinates=coordinates(passage.msg)):
            claimed = await self._claim_or_fail_open(delivery)
            passage.began_s = self._clock()
            if claimed is None:
                await self._run_unprotected(delivery, run)
                passage.claimed = None
            elif claimed:
                await self._run_claimed(delivery, run, to_be_concluded=True)
                passage.claimed = True

    async def conclude(self, passages: Sequence[Passage]) -> None:
        """Confirm the events whose handlers have returned, in one round trip; raises for none."""
        claimed = [p.delivery for p in passages if p.delivery is not None and p.claimed]
        open_ = [delivery for delivery in claimed if not delivery.claim.confirmed]
        for delivery in open_:
            self._keeper.let_go(delivery)
        for delivery, answer in zip(open_, await self._confirm_together(open_), strict=True):
            delivery.claim.confirmed = answer == 1
        await asyncio.gather(*(self._keeper.confirm(delivery) for delivery in open_ if not delivery.claim.confirmed))
        for passage in passages:
            if passage.delivery is not None and passage.claimed is not False:
                await self._end(passage, passage.delivery)

    async def abandon(self, passage: Passage) -> None:
        """The handler will not run: give the event back, if it was claimed."""
        delivery = passage.delivery
        if delivery is not None and passage.claimed is False:
            delivery.claim.uncertain = True
            await self._keeper.settle(delivery, processed=False)

    async def _end(self, passage: Passage, delivery: Delivery) -> None:
        if passage.claimed:
            await self._finish(delivery, passage.began_s)
        elif not delivery.claim.confirmed:
            await self._keeper.settle(delivery, processed=True)

    async def _confirm_together(self, deliveries: Sequence[Delivery]) -> Sequence[Answer]:
        ttl_seconds = self._config.get_ttl_for_event_type
        asked = [
            part for each in deliveries for part in each.claim.asks_to_confirm(ttl_seconds(each.identity.event_type))
        ]
        try:
            answers = await self._scripts.run_many(CONFIRM, [each.claim.key for each in deliveries], asked)
        except Exception:  # noqa: BLE001  # each is confirmed by itself, and tells what it finds
            answers = None
        return answers or [None] * len(deliveries)

    def _prepared(self, msg: Any) -> Delivery | None:
        identity = self._identify(msg)
        return None if identity is None else self._delivery(msg, identity)
