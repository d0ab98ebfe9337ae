"""From events to notifications on users' Redis channels.

The Kafka handlers of *notify*. Knows Redis through a port; who listens on the
channels is `sockets`' business.

Kafka orders nothing between two topics. Users are promised "accepted" before
"checked", so both handlers announce the acceptance: notifications have ids, and
the second of one id has no effect. For the same reason a handler may run again.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

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
from huleedu_service_libs.redis_pubsub import UserNotifications

__all__ = ["Notifier"]

_logger = create_service_logger("notify.service")

Confirm = Callable[[], Awaitable[None]]


class Notifier:
    """Tell users what became of their essays.

    Args:
        notifications: Carries the notifications, and knows those that were sent.
        now: The time of day; a test passes its own.
    """

    def __init__(self, notifications: UserNotifications, now: Now = utc_now) -> None:
        self._notifications = notifications
        self._now = now

    async def handle_submitted(self, delivery: Delivery[EssaySubmittedV1], *, confirm_idempotency: Confirm) -> None:
        """Announce that an essay was accepted."""
        submitted = delivery.data
        stages = _accepted_stages(submitted, kafka_moment(delivery.record.timestamp))
        await self._publish(ACCEPTED_NOTIFICATION, submitted, delivery.envelope, stages, {})
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
        await self._publish(ACCEPTED_NOTIFICATION, checked, delivery.envelope, accepted, {})
        await self._publish(CHECKED_NOTIFICATION, checked, delivery.envelope, stages, data)
        await confirm_idempotency()

    async def _publish(
        self,
        name: str,
        event: EssaySubmittedV1 | EssaySpellcheckedV1,
        envelope: EventEnvelope[Any],
        stages: dict[str, datetime],
        data: dict[str, Any],
    ) -> None:
        times = {**stages, "notified_at": self._now()}
        receivers = await self._notifications.publish_user_notification(
            event.user_id,
            name,
            {
                "essay_id": str(event.essay_id),
                "correlation_id": str(envelope.correlation_id),
                "trace_id": get_current_trace_id(),
                **data,
                "stages": {stage: moment_text(time) for stage, time in times.items()},
            },
            notification_id=f"{name}:{event.essay_id}",
        )
        _logger.info("user_notified", notification=name, essay_id=str(event.essay_id), receivers=receivers)


def _accepted_stages(event: EssaySubmittedV1 | EssaySpellcheckedV1, relayed_at: datetime) -> dict[str, datetime]:
    return {"received_at": event.received_at, "stored_at": event.stored_at, "relayed_at": relayed_at}
