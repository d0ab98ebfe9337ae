"""Collectors under the name of a service, made once in a process."""

import re
from collections.abc import Sequence

from prometheus_client import Counter, Gauge, Histogram

from huleedu_service_libs._metrics import counter, gauge, histogram

__all__ = ["BUCKETS", "Named"]

BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Seconds; the contract's, which also frame what OpenTelemetry recommends for database clients."""

_NOT_OF_NAMES = re.compile(r"[^a-zA-Z0-9_]")


class Named:
    """Makes collectors ``<prefix>_<logical name>``.

    Args:
        service_name: Becomes the prefix; what a metric's name cannot hold without quotes becomes ``_``.

    Attributes:
        made: What was made, by logical name.
    """

    def __init__(self, service_name: str) -> None:
        prefix = _NOT_OF_NAMES.sub("_", service_name) or "unknown"
        self._prefix = f"_{prefix}" if prefix[0].isdigit() else prefix
        self.made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Counter:
        """A counter."""
        made = counter(f"{self._prefix}_{name}", documentation, labels)
        self.made[name] = made
        return made

    def gauge(self, name: str, documentation: str, labels: tuple[str, ...] = ()) -> Gauge:
        """A gauge."""
        made = gauge(f"{self._prefix}_{name}", documentation, labels)
        self.made[name] = made
        return made

    def histogram(
        self, name: str, documentation: str, labels: tuple[str, ...], buckets: Sequence[float] = BUCKETS
    ) -> Histogram:
        """A histogram."""
        made = histogram(f"{self._prefix}_{name}", documentation, labels, tuple(buckets))
        self.made[name] = made
        return made
