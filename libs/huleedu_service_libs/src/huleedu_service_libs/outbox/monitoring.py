"""Prometheus metrics of the outbox.

The collectors are made once, at import. Nothing here may ever disturb the
outbox itself: incrementing a collector that a test has unregistered is harmless.
"""

from collections.abc import Sequence

from huleedu_service_libs._metrics import counter, gauge, histogram, observe_many

__all__ = ["OutboxMetrics", "OutboxTableMetrics"]

_QUEUE_DEPTH = gauge("outbox_queue_depth", "Events that wait to be published", ("service",))
_ADDED = counter("outbox_events_added_total", "Events added to the outbox", ("service", "event_type"))
_PUBLISHED = counter("outbox_events_published_total", "Events acknowledged by the broker", ("service", "event_type"))
_FAILED = counter("outbox_events_failed_total", "Events parked after their last attempt", ("service", "event_type"))
_ERRORS = counter("outbox_relay_errors_total", "Errors that the outbox survived", ("service", "error_type"))
_HELD_TOPICS = gauge("outbox_held_topics", "Topics that the relay cannot reach at the moment", ("service",))
_PARKED = gauge("outbox_parked_events", "Events that were given up and wait for a redrive", ("service",))
_OLDEST = gauge(
    "outbox_oldest_unpublished_age_seconds", "Age of the oldest event that waits, parked ones apart", ("service",)
)
_LANES_OWNED = gauge(
    "outbox_lanes_owned", "Lanes that some relay owns, of 64; fewer means that keys wait", ("service",)
)
_RELAYS = gauge("outbox_relays", "Relays that share the lanes", ("service",))
_HELD_BY_WRITER = gauge(
    "outbox_held_by_writer_seconds", "Strict order: how long the writer that holds events back has run", ("service",)
)
_PURGED = counter(
    "outbox_events_purged_total", "Published events that were deleted after their retention", ("service",)
)
_REDRIVEN = counter("outbox_events_redriven_total", "Parked events that were given new attempts", ("service", "mode"))
_AGE = histogram(
    "outbox_event_age_seconds",
    "Age of an event when the broker had acknowledged it",
    ("service",),
    (0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 3600),
)
_RELAY_LANES = gauge("outbox_relay_lanes", "Lanes that this process's relay owns, of 64", ("service",))
_ATTEMPTS_FAILED = counter(
    "outbox_attempts_failed_total", "Attempts that failed for reasons of the event itself", ("service",)
)
_BATCH_SIZE = histogram(
    "outbox_batch_size", "Events of a batch", ("service",), (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
)
_LATENCY = histogram(
    "outbox_acknowledged_after_seconds",
    "From the addition of an event, on the database's clock, to the broker's acknowledgement",
    ("service",),
    (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 300),
)
_PROCESSING = histogram(
    "outbox_relay_processing_seconds",
    "Time from reading a batch to storing its result",
    ("service",),
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
)


class OutboxMetrics:
    """The metrics of one service's outbox.

    Args:
        service_name: Value of the label ``service``.
    """

    def __init__(self, service_name: str = "unknown") -> None:
        self.service_name = service_name

    def increment_events_added(self, event_type: str) -> None:
        """An event was added."""
        _ADDED.labels(service=self.service_name, event_type=event_type).inc()

    def increment_published_events(self, event_type: str | None = None, count: int = 1) -> None:
        """The broker has acknowledged ``count`` events of a type; without a type they count as ``unknown``."""
        _PUBLISHED.labels(service=self.service_name, event_type=event_type or "unknown").inc(count)

    def increment_failed_events(self, event_type: str | None = None) -> None:
        """An event was parked."""
        _FAILED.labels(service=self.service_name, event_type=event_type or "unknown").inc()

    def increment_errors(self, error_type: str = "generic") -> None:
        """An error was survived."""
        _ERRORS.labels(service=self.service_name, error_type=error_type).inc()

    def set_queue_depth(self, depth: int) -> None:
        """So many events wait."""
        _QUEUE_DEPTH.labels(service=self.service_name).set(depth)

    def set_held_topics(self, count: int) -> None:
        """So many topics are out of reach."""
        _HELD_TOPICS.labels(service=self.service_name).set(count)

    def observe_event_age(self, age_seconds: float) -> None:
        """An event was so old when the broker had acknowledged it."""
        _AGE.labels(service=self.service_name).observe(age_seconds)

    def observe_ages(self, ages_seconds: Sequence[float]) -> None:
        """Events were so old when the broker had acknowledged them."""
        for collector in (_AGE, _LATENCY):
            observe_many(collector.labels(service=self.service_name), ages_seconds)

    def observe_batch(self, size: int, *, failed_attempts: int) -> None:
        """A batch of so many events was delivered; for so many of them the attempt failed."""
        _BATCH_SIZE.labels(service=self.service_name).observe(size)
        if failed_attempts:
            _ATTEMPTS_FAILED.labels(service=self.service_name).inc(failed_attempts)

    def set_relay_lanes(self, count: int) -> None:
        """A relay of this process owns so many lanes."""
        _RELAY_LANES.labels(service=self.service_name).set(count)

    def observe_processing_time(self, duration_seconds: float) -> None:
        """A batch took so long."""
        _PROCESSING.labels(service=self.service_name).observe(duration_seconds)


class OutboxTableMetrics:
    """What is seen by looking at the table and its locks, whichever relay works on it.

    Args:
        service_name: Value of the label ``service``.
    """

    def __init__(self, service_name: str = "unknown") -> None:
        self.service_name = service_name

    def set_parked(self, count: int) -> None:
        """So many events are parked."""
        _PARKED.labels(service=self.service_name).set(count)

    def set_oldest_age(self, seconds: float) -> None:
        """The oldest waiting event is so old; 0 when none waits."""
        _OLDEST.labels(service=self.service_name).set(seconds)

    def set_owners(self, *, lanes: int, relays: int) -> None:
        """So many lanes are owned, by so many relays."""
        _LANES_OWNED.labels(service=self.service_name).set(lanes)
        _RELAYS.labels(service=self.service_name).set(relays)

    def set_held_by_writer(self, seconds: float) -> None:
        """The writer that holds events back has run for so long; 0 when none does."""
        _HELD_BY_WRITER.labels(service=self.service_name).set(seconds)

    def increment_purged(self, count: int) -> None:
        """So many published events were deleted."""
        _PURGED.labels(service=self.service_name).inc(count)

    def increment_redriven(self, count: int, mode: str) -> None:
        """So many parked events were given new attempts."""
        _REDRIVEN.labels(service=self.service_name, mode=mode).inc(count)
