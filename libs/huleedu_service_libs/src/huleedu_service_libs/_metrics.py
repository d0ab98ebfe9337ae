"""Prometheus collectors that are made once for a process.

Test suites of services unregister every collector between tests, and modules
may be imported twice; neither may raise or lose a collector: whoever asks again
gets the same one, back in its registry. A name that somebody else has taken is
told in a `RuntimeWarning`.
"""

import warnings
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, TypeVar
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["counter", "gauge", "histogram", "observe_many", "observer"]

_Collector = TypeVar("_Collector", Counter, Gauge, Histogram)
_made: WeakKeyDictionary[CollectorRegistry, dict[str, Counter | Gauge | Histogram]] = WeakKeyDictionary()


def counter(
    name: str, documentation: str, labels: tuple[str, ...] = (), registry: CollectorRegistry = REGISTRY
) -> Counter:
    """The counter ``name`` of the registry, made when it does not exist yet."""
    return _once(Counter, name, registry, lambda home: Counter(name, documentation, labels, registry=home))


def gauge(
    name: str,
    documentation: str,
    labels: tuple[str, ...] = (),
    registry: CollectorRegistry = REGISTRY,
    multiprocess_mode: Literal["all", "livesum"] = "all",
) -> Gauge:
    """The gauge ``name`` of the registry, made when it does not exist yet."""
    return _once(
        Gauge,
        name,
        registry,
        lambda home: Gauge(name, documentation, labels, registry=home, multiprocess_mode=multiprocess_mode),
    )


def histogram(
    name: str,
    documentation: str,
    labels: tuple[str, ...],
    buckets: tuple[float, ...],
    registry: CollectorRegistry = REGISTRY,
) -> Histogram:
    """The histogram ``name`` of the registry, made when it does not exist yet."""
    return _once(
        Histogram,
        name,
        registry,
        lambda home: Histogram(name, documentation, labels, buckets=buckets, registry=home),
    )


def observe_many(child: Histogram, values: Sequence[float]) -> None:
    """Observe many values at once, at the cost of a few.

    Args:
        child: A histogram with its labels.
        values: What was measured.
    """
    bounds = child._upper_bounds  # noqa: SLF001  # there is no public way to observe more than one value
    for place, count in Counts(bisect_left(bounds, value) for value in values).items():
        child._buckets[place].inc(count)  # noqa: SLF001  # as above
    child._sum.inc(sum(values))  # noqa: SLF001  # as above


def observer(child: Histogram) -> Callable[[float, dict[str, str] | None], None]:
    """What observes one value and its exemplar, at two thirds of the cost of ``child.observe`` without exemplar.

    For what every request does: the bucket is found by bisection, and the checks were made when the child was.

    Args:
        child: A histogram with its labels.
    """
    bounds, add = child._upper_bounds, child._sum.inc  # noqa: SLF001  # as above
    count = [bucket.inc for bucket in child._buckets]  # noqa: SLF001  # as above

    def observe(value: float, exemplar: dict[str, str] | None) -> None:
        if exemplar is None:
            add(value)
            count[bisect_left(bounds, value)](1)
        else:
            child.observe(value, exemplar)

    return observe


def _once(
    kind: type[_Collector],
    name: str,
    registry: CollectorRegistry,
    make: Callable[[CollectorRegistry | None], _Collector],
) -> _Collector:
    made = _made.setdefault(registry, {})
    existing = made.get(name)
    if isinstance(existing, kind):
        with suppress(ValueError):  # it is still there
            registry.register(existing)
        return existing
    try:
        collector = make(registry)
    except ValueError as error:  # somebody else holds the name: count on, unseen, rather than fail an import
        collector = made[name] = make(None)
        # stacklevel: who asked for the collector
        warnings.warn(f"metric {name!r} is not exported: {error}", RuntimeWarning, stacklevel=3)
    else:
        made[name] = collector
    return collector
