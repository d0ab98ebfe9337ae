"""Values that are noted now and counted when somebody reads: for what happens so often that a lock for each is felt.

Database watching uses it. A registry reads a collector by its ``collect``; that is where notes are counted first.
"""

from collections.abc import Callable, Iterable
from threading import Lock
from weakref import WeakKeyDictionary

from prometheus_client import Counter, Gauge, Histogram, Metric, values

from huleedu_service_libs._metrics import observe_many

__all__ = ["READS_ALONE", "Tally", "before_read", "tally"]

READS_ALONE = values.ValueClass is values.MutexValue
"""Whether this process answers for its own figures; in multiprocess mode others read them from files at any time."""

_MOST_NOTED = 256 if READS_ALONE else 1


class Tally:
    """Values of one series that are noted now and counted when the collector is read, or when there are many of them.

    A note is an append, and tenths of what ``observe`` or ``inc`` costs. Made by `tally`.
    """

    __slots__ = ("__weakref__", "_count", "_lock", "_noted")

    def __init__(self, count: Callable[[list[float]], None]) -> None:
        self._count = count
        self._lock = Lock()
        self._noted: list[float] = []

    def note(self, value: float) -> None:
        """Observe ``value``."""
        self._noted.append(value)
        # Never waits: a connection that the garbage collector gives back may note while this thread counts.
        if len(self._noted) >= _MOST_NOTED and self._lock.acquire(blocking=False):
            self._settle()

    def settle(self) -> None:
        """Count what was noted."""
        self._lock.acquire()
        self._settle()

    def _settle(self) -> None:
        try:
            taken = self._noted[:]
            del self._noted[: len(taken)]  # others append behind it meanwhile
            if taken:
                self._count(taken)
        finally:
            self._lock.release()


_tallies: WeakKeyDictionary[Histogram, dict[tuple[str, ...], Tally]] = WeakKeyDictionary()
_before: WeakKeyDictionary[Counter | Gauge | Histogram, dict[object, Callable[[], object]]] = WeakKeyDictionary()


def tally(collector: Histogram, *labels: str, counted: Counter | None = None) -> Tally:
    """The tally of a histogram's series, one for all who ask.

    Args:
        collector: The histogram.
        labels: Of the series.
        counted: Goes up by one for each note.
    """
    known = _tallies.setdefault(collector, {})
    found = known.get(labels)
    if found is None:
        child = collector.labels(*labels) if labels else collector
        found = known[labels] = Tally(lambda noted: _count(child, counted, noted))
        for each in (collector, counted):
            if each is not None:
                before_read(each, found, found.settle)
    return found


def _count(child: Histogram, counted: Counter | None, noted: list[float]) -> None:
    observe_many(child, noted)
    if counted is not None:
        counted.inc(len(noted))


def before_read(collector: Counter | Gauge | Histogram, key: object, action: Callable[[], object]) -> None:
    """Have ``action`` done whenever the collector is read; a later one under the same key takes its place."""
    actions = _before.get(collector)
    if actions is None:
        actions = _before[collector] = {}
        _put_before(collector, actions)
    actions[key] = action


def _put_before(collector: Counter | Gauge | Histogram, actions: dict[object, Callable[[], object]]) -> None:
    collect = collector.collect

    def collect_now() -> Iterable[Metric]:
        for action in list(actions.values()):
            action()
        return collect()

    collector.collect = collect_now  # type: ignore[method-assign]  # a registry calls it, and has no event
