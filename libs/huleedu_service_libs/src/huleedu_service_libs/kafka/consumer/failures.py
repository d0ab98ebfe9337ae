"""What follows from a failure of a record: it waits, is tried again, or is addressed to another topic.

`Handling` tells of the failure, and of what cannot be handled at all. Knows no publisher's
methods: a record that is to go elsewhere gets a parcel, which ``post`` sends.
"""

import random
from collections.abc import Callable
from datetime import UTC
from functools import partial
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields, error_text
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig, RetryPolicy
from huleedu_service_libs.kafka.consumer.errors import HandlerTimeoutError
from huleedu_service_libs.kafka.consumer.letters import Trail, letter, trail_of
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.kafka.consumer.partitions import RETRYING, Job, Parcel
from huleedu_service_libs.kafka.consumer.ports import Delivery
from huleedu_service_libs.kafka.consumer.registry import Registration
from huleedu_service_libs.kafka.consumer.retry import Again, Later, delay_after, plan_retry, waits_for_others
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.store_policy import DeferredError, StoreDownError

__all__ = ["Failures", "coordinates", "defer_delay"]

_DEFER_FIRST_S = 0.1
_DEFER_LONGEST_S = 15.0

_NO_LETTERS = {"waits_for": "a publisher of dead letters; give the EventConsumer one, a KafkaBus for example"}

logger = create_service_logger("huleedu_service_libs.consumer")


def coordinates(record: Any) -> dict[str, Any]:
    """Where a record stands in Kafka, as log fields."""
    return {"kafka_topic": record.topic, "kafka_partition": record.partition, "kafka_offset": record.offset}


def defer_delay(deferrals: int, jitter: Callable[[], float]) -> float:
    """Seconds to wait when it is not the event that failed."""
    return delay_after(deferrals, first_s=_DEFER_FIRST_S, longest_s=_DEFER_LONGEST_S, jitter=jitter)


class Failures:
    """Judges failures, counts and logs them.

    Args:
        config: What becomes of failures.
        metrics: Of the consumer.
        letters: Whether a publisher of retry and dead-letter messages exists; without one a failing event is tried
            for ever.
        clock: Monotonic seconds.
        now: Time of day.
        jitter: A number in [0, 1) at each call.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        metrics: ConsumerMetrics,
        *,
        letters: bool,
        clock: _clock.Clock,
        now: _clock.Now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._metrics = metrics
        self._letters = letters
        self._clock = clock
        self._now = now
        self._jitter = jitter

    def failed(self, job: Job, registration: Registration, error: Exception) -> float | None:
        """A run of the handler failed; the seconds until the next, or ``None`` when the job has a parcel now."""
        policy = registration.retry
        if waits_for_others(policy, error, since_s=self._waiting_s(job)):
            job.deferrals += 1
            self.note(job, error, "outage")
            return self._rest(job, self._delay(job.deferrals, policy))
        job.failures += 1
        job.deferrals = 0
        self.note(job, error, "timeout" if isinstance(error, HandlerTimeoutError) else "failed")
        job.trail = trail = _trail(job).after(error, at=self._moment())
        if job.delivery is not None:
            job.delivery = _next_attempt(job.delivery)
        plan = plan_retry(policy, error, failures=job.failures, tier=trail.tier, jitter=self._jitter)
        if not self._letters and not isinstance(plan, Again):
            return self._rest(job, self._delay(job.failures, policy))
        match plan:
            case Again(delay_s=delay_s):
                return self._rest(job, delay_s)
            case Later(tier=tier, delay_s=delay_s):
                self._address(job, "failed", tier=tier, due_at=self._now().timestamp() + delay_s)
            case _:
                self._address(job, "failed")
        return None

    def _waiting_s(self, job: Job) -> float:
        """Seconds since the outage began for this event; an attempt that failed otherwise ends one."""
        now = self._clock()
        if job.outage_since is None or not job.deferrals:
            job.outage_since = now
        return now - job.outage_since

    def deferred(self, job: Job, error: DeferredError) -> float | None:
        """A step said "not now"."""
        job.deferrals += 1
        store_down = isinstance(error, StoreDownError)
        self.note(job, error, "store_down" if store_down else "deferred")
        if isinstance(error, StoreDownError) and error.policy == "dead-letter" and self._letters:
            return self.give_up(job, "store_down", error, counted=False)
        return self._rest(job, defer_delay(job.deferrals, self._jitter))

    def give_up(self, job: Job, reason: str, error: Exception, *, counted: bool = True) -> float | None:
        """Address the record to the dead-letter topic, or wait for somebody to help when there is none."""
        if job.trail is None or not job.trail.failures or job.last_error is None:
            self.note(job, error, reason, **({} if self._letters else _NO_LETTERS))
        job.last_error = error_text(error)
        job.trail = _trail(job).after(error, at=self._moment(), counted=counted and job.registration is not None)
        if not self._letters:
            job.deferrals += 1
            return self._rest(job, defer_delay(job.deferrals, self._jitter))
        self._address(job, reason)
        return None

    def note(self, job: Job, error: Exception, kind: str, **more: str) -> None:
        """Count and log a failure; the traceback stands on the first line of a handler that fails, and once is enough."""
        job.last_error = error_text(error)
        self._metrics.failure(job.record.topic, job.label, kind)
        logger.warning(
            "event_not_processed",
            kind=kind,
            group=self._config.group_id,
            event_type=job.event_type,
            attempt=job.failures,
            deferrals=job.deferrals,
            **coordinates(job.record),
            **error_fields(error),
            **more,
            **({"exc_info": error} if kind == "failed" and job.failures == 1 else {}),
        )

    def _address(self, job: Job, reason: str, *, tier: int = 0, due_at: float = 0.0) -> None:
        trail = _trail(job)
        config = self._config
        topic = config.retry_topic_of(trail.topic, tier) if tier else config.dead_letter_topic_of(trail.topic)
        make = partial(
            letter, job.record, trail, topic=topic, group=config.group_id, reason=reason, due_at=due_at, tier=tier
        )
        job.parcel = Parcel(message=make(), slim=make(slim=True), outcome="retry_topic" if tier else "dead_letter")
        fields = {
            "group": config.group_id,
            "to": topic,
            "reason": reason,
            "event_type": job.event_type,
            "attempts": trail.attempts,
            "error": job.last_error,
            **coordinates(job.record),
        }
        if tier:
            logger.warning("event_to_retry_topic", **fields)
        else:
            logger.error("event_dead_lettered", **fields)

    def _delay(self, failures: int, policy: RetryPolicy) -> float:
        return delay_after(
            failures, first_s=policy.first_delay_s, longest_s=policy.longest_delay_s, jitter=self._jitter
        )

    def _rest(self, job: Job, seconds: float) -> float:
        job.doing = RETRYING
        return seconds

    def _moment(self) -> str:
        return self._now().astimezone(UTC).isoformat(timespec="milliseconds")


def _trail(job: Job) -> Trail:
    return job.trail or trail_of(job.record, from_retry_topic=False)


def _next_attempt(delivery: Delivery[Any]) -> Delivery[Any]:
    return Delivery(
        record=delivery.record,
        envelope=delivery.envelope,
        data=delivery.data,
        attempt=delivery.attempt + 1,
    )
