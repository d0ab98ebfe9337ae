"""Prints what the library registers with Prometheus: series and their labels, as JSON. Run in a process of its own."""

import importlib
import json
import pkgutil
import sys
from collections.abc import Iterator
from typing import Any

from prometheus_client import REGISTRY

import huleedu_service_libs
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.database.metrics import DatabaseMetrics
from huleedu_service_libs.middleware.http_metrics import HttpMetrics
from huleedu_service_libs.resilience.metrics import StandardCircuitBreakerMetrics

__all__ = ["SERVICE", "registered"]

SERVICE = "svc"
_SUFFIXES: dict[str, dict[str, tuple[str, ...]]] = {
    "counter": {"_total": ()},
    "gauge": {"": ()},
    "histogram": {"_bucket": ("le",), "_sum": (), "_count": ()},
}


def registered() -> dict[str, list[str]]:
    """Labels of each series, by name, after everything was imported and set up once."""
    for module in pkgutil.walk_packages(huleedu_service_libs.__path__, "huleedu_service_libs."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    DatabaseMetrics(SERVICE)
    EngineMetrics(SERVICE)
    HttpMetrics(SERVICE, prefixed=True)
    StandardCircuitBreakerMetrics()
    return {
        f"{name}{suffix}": sorted({*labels, *more})
        for name, kind, labels in _families()
        for suffix, more in _SUFFIXES.get(kind, {}).items()
    }


def _families() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    collectors: list[Any] = list(REGISTRY._collector_to_names)  # there is no public list of collectors
    for collector in collectors:
        labels = getattr(collector, "_labelnames", None)
        if labels is not None:
            yield collector._name, collector._type, tuple(labels)  # as above
            continue
        describe = getattr(collector, "describe", collector.collect)
        for family in describe():
            yield family.name, family.type, tuple(getattr(family, "_labelnames", ()))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(registered()))
