"""From events to notifications on users' Redis channels.

The Kafka handlers of *notify*. Knows Redis through its port; who listens on the
channels is `sockets`' business.

Both topics are keyed by the essay and have equally many partitions, so one
process sees everything about an essay. Still Kafka orders nothing between two
topics. Users are promised "accepted" before "checked", so whichever event comes
first announces the acceptance.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

from common_core.events.envelope import EventEnvelope
from essay_pipeline.clock import Now, utc_now
from essay_pipeline.contracts import (
    ACCEPTED_NOTIFICATION,
    CHECKED_NOTIFICATION,
    EssaySpellcheckedV1,
    EssaySubmittedV1,
    kafka_moment,
    moment_text,
)
from huleedu_service_libs.kafka.consumer import Delivery
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability import get_current_trace_id
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["ACCEPTED_MARK", "Notifier"]

_logger = create_service_logger("notify.service")

ACCEPTED_MARK = "essay_pipeline:accepted:"
"""Before the id of an essay: the Redis key that says that its acceptance was announced."""

_ANNOUNCED_SECONDS = 3600  # how long an acceptance is remembered; far longer than a check takes

Confirm = Callable[[], Awaitable[None]]


class Notifier:
    """Tell users what became of their essays.

    Args:
        redis: Carries the notifications, and remembers what was announced.
        now: The time of day; a test passes its own.
        mark_prefix: Before the ids of essays whose acceptance was announced.
    """

    def __init__(
        self, redis: AtomicRedisClientProtocol, now: Now = utc_now, *, mark_prefix: str = ACCEPTED_MARK
    ) -> None:
        self._redis = redis
        self._mark_prefix = mark_prefix
        self._now = now
        self._essays: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def handle_submitted(self, delivery: Delivery[EssaySubmittedV1], *, confirm_idempotency: Confirm) -> None:
        """Announce that an essay was accepted."""
        submitted = delivery.data
        stages = _accepted_stages(submitted, kafka_moment(delivery.record.timestamp))
        async with self._lock_of(submitted.essay_id):
            await self._announce_accepted(submitted, stages, delivery.envelope)
        await confirm_idempotency()

    async def handle_checked(self, delivery: Delivery[EssaySpellcheckedV1], *, confirm_idempotency: Confirm) -> None:
        """Announce what the check found."""
        checked = delivery.data
        accepted = _accepted_stages(checked, checked.relayed_at)
        data = {
            "language": checked.language,
            "word_count": checked.word_count,
            "misspellings": [each.model_dump() for each in checked.misspellings],
        }
        stages = {
            **accepted,
            "checking_at": checked.checking_at,
            "checked_at": checked.checked_at,
            "result_stored_at": checked.result_stored_at,
            "result_relayed_at": kafka_moment(delivery.record.timestamp),
        }
        async with self._lock_of(checked.essay_id):
            await self._announce_accepted(checked, accepted, delivery.envelope)
            await self._publish(CHECKED_NOTIFICATION, checked, delivery.envelope, stages, data)
        await confirm_idempotency()

    async def _announce_accepted(
        self,
        event: EssaySubmittedV1 | EssaySpellcheckedV1,
        stages: dict[str, datetime],
        envelope: EventEnvelope[Any],
    ) -> None:
        """Announce the acceptance unless that was done; the caller holds the essay's lock."""
        mark = f"{self._mark_prefix}{event.essay_id}"
        if await self._redis.get(mark) is not None:
            return
        await self._publish(ACCEPTED_NOTIFICATION, event, envelope, stages, {})
        await self._redis.setex(mark, _ANNOUNCED_SECONDS, "announced")

    async def _publish(
        self,
        name: str,
        event: EssaySubmittedV1 | EssaySpellcheckedV1,
        envelope: EventEnvelope[Any],
        stages: dict[str, datetime],
        data: dict[str, Any],
    ) -> None:
        times = {**stages, "notified_at": self._now()}
        receivers = await self._redis.publish_user_notification(
            event.user_id,
            name,
            {
                "essay_id": str(event.essay_id),
                "correlation_id": str(envelope.correlation_id),
                "trace_id": get_current_trace_id(),
                **data,
                "stages": {stage: moment_text(time) for stage, time in times.items()},
            },
        )
        _logger.info("user_notified", notification=name, essay_id=str(event.essay_id), receivers=receivers)

    def _lock_of(self, essay_id: UUID) -> asyncio.Lock:
        """One lock an essay, for as long as somebody holds or awaits it."""
        lock = self._essays.get(essay_id)
        if lock is None:
            self._essays[essay_id] = lock = asyncio.Lock()
        return lock


def _accepted_stages(event: EssaySubmittedV1 | EssaySpellcheckedV1, relayed_at: datetime) -> dict[str, datetime]:
    return {"received_at": event.received_at, "stored_at": event.stored_at, "relayed_at": relayed_at}
