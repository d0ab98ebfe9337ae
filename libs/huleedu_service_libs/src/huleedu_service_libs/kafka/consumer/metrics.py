"""Prometheus metrics of a consumer. Labels have few values: event types without a handler share one."""

from collections import defaultdict
from collections.abc import Mapping
from weakref import WeakSet

from prometheus_client import Counter

from huleedu_service_libs._metrics import counter, gauge, histogram

__all__ = ["UNDECODED", "UNREGISTERED", "ConsumerMetrics"]

UNREGISTERED = "unregistered"
UNDECODED = "undecoded"

_LABELS = ("group", "topic", "event_type")
_RECORDS = counter(
    "huleedu_consumer_records_total",
    "Records by what became of them: processed, duplicate, skipped, retry_topic, dead_letter",
    (*_LABELS, "outcome"),
)
_FAILURES = counter(
    "huleedu_consumer_failures_total",
    "Runs that did not succeed: failed, timeout, outage, deferred, store_down, publish_failed",
    (*_LABELS, "kind"),
)
_DURATION = histogram(
    "huleedu_consumer_handler_seconds",
    "Time that a run of a handler took, whatever it came to",
    _LABELS,
    (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60),
)
_IN_FLIGHT = gauge("huleedu_consumer_in_flight", "Handlers running", ("group",))
_BUFFERED = gauge("huleedu_consumer_buffered_records", "Records taken from Kafka and not finished", ("group",))
_PAUSED = gauge("huleedu_consumer_paused_partitions", "Partitions not read because of back-pressure", ("group",))
_STUCK = gauge("huleedu_consumer_stuck_partitions", "Partitions that one record has held up for long", ("group",))
_LAG = gauge("huleedu_consumer_lag_records", "Records not finished yet, read or not", ("group", "topic"))
_SWALLOWED = counter(
    "huleedu_consumer_swallowed_errors_total",
    "Errors between consumer and Kafka that were survived",
    ("group", "operation"),
)


class _OfType:
    """The collectors of one topic and event type, looked up once."""

    __slots__ = ("duration", "labels", "outcomes")

    def __init__(self, group: str, topic: str, event_type: str) -> None:
        self.labels = (group, topic, event_type)
        self.outcomes: dict[str, Counter] = {}
        self.duration = _DURATION.labels(*self.labels)


class _Shares:
    """What one consumer contributes to the gauges of its group in this process."""

    def __init__(self) -> None:
        self.levels = (0, 0, 0, 0)
        self.lags: dict[str, int] = {}


_SHARES: defaultdict[str, "WeakSet[_Shares]"] = defaultdict(WeakSet)
"""By group: two consumers of one group in one process must not overwrite each other's gauges."""


class ConsumerMetrics:
    """The metrics of one consumer.

    Args:
        group: Value of the label ``group``.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._types: dict[tuple[str, str], _OfType] = {}
        self._gauges = [each.labels(group) for each in (_IN_FLIGHT, _BUFFERED, _PAUSED, _STUCK)]
        self._shares = _Shares()
        _SHARES[group].add(self._shares)

    def _of(self, topic: str, event_type: str) -> _OfType:
        found = self._types.get((topic, event_type))
        if found is None:
            found = self._types[topic, event_type] = _OfType(self._group, topic, event_type)
        return found

    def outcome(self, topic: str, event_type: str, outcome: str) -> None:
        """A record ended so."""
        of_type = self._of(topic, event_type)
        found = of_type.outcomes.get(outcome)
        if found is None:
            found = of_type.outcomes[outcome] = _RECORDS.labels(*of_type.labels, outcome)
        found.inc()

    def failure(self, topic: str, event_type: str, kind: str) -> None:
        """A run did not succeed."""
        _FAILURES.labels(self._group, topic, event_type, kind).inc()

    def duration(self, topic: str, event_type: str, seconds: float) -> None:
        """A run of a handler took so long."""
        self._of(topic, event_type).duration.observe(seconds)

    def swallowed(self, operation: str) -> None:
        """An error between consumer and Kafka was survived."""
        _SWALLOWED.labels(self._group, operation).inc()

    def levels(self, *, in_flight: int, buffered: int, paused: int, stuck: int) -> None:
        """How full it is at the moment."""
        self._shares.levels = (in_flight, buffered, paused, stuck)
        of_process = [sum(each) for each in zip(*(one.levels for one in _SHARES[self._group]), strict=True)]
        for gauge_, value in zip(self._gauges, of_process, strict=True):
            gauge_.set(value)

    def lags(self, by_topic: Mapping[str, int]) -> None:
        """So many records of each topic are not finished; topics told before and not now are somebody else's."""
        told_before, self._shares.lags = self._shares.lags, dict(by_topic)
        for topic in told_before.keys() | by_topic.keys():
            _LAG.labels(self._group, topic).set(sum(one.lags.get(topic, 0) for one in _SHARES[self._group]))
