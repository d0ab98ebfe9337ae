"""Prometheus collectors that are made once for a process.

Test suites of services unregister every collector between tests, and modules
may be imported twice; neither may raise or lose a collector. A name that
somebody else has taken is told in a `RuntimeWarning`.
"""

import warnings
from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["counter", "gauge", "histogram", "observe_many"]

_Collector = TypeVar("_Collector", Counter, Gauge, Histogram)
_made: dict[str, Counter | Gauge | Histogram] = {}


def counter(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
    """The counter ``name`` of the default registry, made when it does not exist yet."""
    return _once(Counter, name, lambda registry: Counter(name, documentation, labels, registry=registry))


def gauge(name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
    """The gauge ``name`` of the default registry, made when it does not exist yet."""
    return _once(Gauge, name, lambda registry: Gauge(name, documentation, labels, registry=registry))


def histogram(name: str, documentation: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
    """The histogram ``name`` of the default registry, made when it does not exist yet."""
    return _once(
        Histogram, name, lambda registry: Histogram(name, documentation, labels, buckets=buckets, registry=registry)
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


def _once(kind: type[_Collector], name: str, make: Callable[[CollectorRegistry | None], _Collector]) -> _Collector:
    existing = _made.get(name)
    if isinstance(existing, kind):
        with suppress(ValueError):  # it is there already; a cleared registry gets it back
            REGISTRY.register(existing)
        return existing
    try:
        collector = make(REGISTRY)
    except ValueError as error:  # somebody else holds the name: count on, unseen, rather than fail an import
        collector = _made[name] = make(None)
        # stacklevel: who asked for the collector
        warnings.warn(f"metric {name!r} is not exported: {error}", RuntimeWarning, stacklevel=3)
    else:
        _made[name] = collector
    return collector
