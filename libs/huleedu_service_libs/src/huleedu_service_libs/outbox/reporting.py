"""What a relay tells about its batches: metrics and log lines. Changes nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.batch import Batch
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent
from huleedu_service_libs.outbox.wire import key_of

__all__ = ["Reporter"]

logger = create_service_logger("huleedu.outbox.relay")


class Reporter:
    """Reports of one relay.

    Args:
        service_name: Stands in every line.
        metrics: Counted there; ``None`` counts nothing.
        clock: Monotonic seconds.
    """

    def __init__(
        self, service_name: str, metrics: OutboxMetrics | None, *, clock: _clock.Clock = _clock.monotonic
    ) -> None:
        self._service = service_name
        self._metrics = metrics
        self._storage = Troubles(clock)
        self._topics = Troubles(clock)
        self._parts = Troubles(clock)

    def batch(
        self,
        batch: Batch,
        parked: Sequence[OutboxEvent],
        outages: Mapping[str, float],
        *,
        seconds: float,
        waited: float,
    ) -> None:
        """A batch is stored.

        Args:
            batch: What became of it.
            parked: Events that were given up.
            outages: Topics out of reach, and the seconds until they are tried again.
            seconds: From the look to the stored result.
            waited: From the look to the broker's acknowledgement.
        """
        parked_ids = {event.id for event in parked}
        for one in batch.failed:
            self._failure(one, parked=one.event.id in parked_ids)
        for topic, retry_in in outages.items():
            self._outage(topic, batch.outages[topic], retry_in)
        for topic, error in batch.part_outages.items():
            self._part_outage(topic, error, keys=len(batch.waiting_keys))
        if self._topics or self._parts:
            self._outages_over(batch)
        if self._metrics is not None:
            self._measure(self._metrics, batch, parked, seconds=seconds, waited=waited)

    def held_topics(self, count: int) -> None:
        """So many topics are out of reach."""
        if self._metrics is not None:
            self._metrics.set_held_topics(count)

    def storage_trouble(self, error: Exception, retry_in: float) -> None:
        """A cycle failed."""
        self.count_error("storage")
        if failures := self._storage.failed(error=error):
            logger.error(
                "outbox_storage_error",
                service=self._service,
                failures=failures,
                **error_fields(error),
                retry_in_seconds=round(retry_in, 3),
            )

    def storage_works(self) -> None:
        """A cycle went well."""
        over = self._storage.worked()
        if over is not None:
            logger.info("outbox_storage_trouble_over", service=self._service, **over._asdict())

    def died(self, error: BaseException) -> None:
        """The loop has ended though nobody asked it to."""
        self.count_error("relay_died")
        logger.error("outbox_relay_died", service=self._service, error=repr(error), exc_info=error)

    def count_error(self, error_type: str) -> None:
        """An error was survived."""
        if self._metrics is not None:
            self._metrics.increment_errors(error_type)

    def _outage(self, topic: str, error: Exception, retry_in: float) -> None:
        self.count_error("broker_outage")
        if failures := self._topics.failed(topic, error):
            logger.warning(
                "outbox_broker_outage",
                service=self._service,
                topic=topic,
                failures=failures,
                **error_fields(error),
                retry_in_seconds=round(retry_in, 3),
            )

    def _part_outage(self, topic: str, error: Exception, *, keys: int) -> None:
        """Some of a topic's events arrived: as a rule one partition has no leader. Its keys wait by themselves."""
        self.count_error("partition_outage")
        if failures := self._parts.failed(topic, error):
            logger.warning(
                "outbox_partition_outage",
                service=self._service,
                topic=topic,
                keys=keys,
                failures=failures,
                **error_fields(error),
            )

    def _outages_over(self, batch: Batch) -> None:
        """A topic is reached again by its first event, and wholly by a batch all of whose events of it arrive."""
        for topic in {event.topic for event in batch.published}:
            whole = None if topic in batch.part_outages else self._parts.worked(topic)
            over = self._topics.worked(topic) or whole
            if over is not None:
                logger.info("outbox_broker_trouble_over", service=self._service, topic=topic, **over._asdict())

    def _failure(self, one: FailedEvent, *, parked: bool) -> None:
        self.count_error("poison")
        event = one.event
        logger.error(
            "outbox_event_parked" if parked else "outbox_event_failed",
            service=self._service,
            outbox_id=str(event.id),
            event_type=event.event_type,
            topic=event.topic,
            key=key_of(event),
            attempt=event.retry_count + 1,
            error=one.error,
        )

    @staticmethod
    def _measure(
        metrics: OutboxMetrics, batch: Batch, parked: Sequence[OutboxEvent], *, seconds: float, waited: float
    ) -> None:
        metrics.observe_processing_time(seconds)
        metrics.observe_batch(batch.size, failed_attempts=len(batch.failed))
        for event_type, count in Counter([event.event_type for event in batch.published]).items():
            metrics.increment_published_events(event_type, count)
        metrics.observe_ages(_ages(batch.published, waited))
        for event in parked:
            metrics.increment_failed_events(event.event_type)


def _ages(events: Sequence[OutboxEvent], waited: float) -> list[float]:
    """Seconds from the addition of each event to its acknowledgement.

    Where the database said how old a row was when it was read, only the time since then is of this process.
    """
    now = datetime.now(UTC)
    ages = []
    for event in events:
        age = getattr(event, "age_seconds", None)
        if age is not None:
            ages.append(max(0.0, age + waited))
        elif (other := _age_here(event, now)) is not None:
            ages.append(other)
    return ages


def _age_here(event: OutboxEvent, now: datetime) -> float | None:
    created: object = getattr(event, "created_at", None)  # a row of a test may lack it
    if not isinstance(created, datetime):
        return None
    aware = created if created.tzinfo else created.replace(tzinfo=UTC)  # some tables have no time zone
    return max(0.0, (now - aware).total_seconds())
