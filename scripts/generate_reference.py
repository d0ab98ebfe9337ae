"""Write the reference of log lines, metrics and settings: log-events.md, metrics.md and settings.md in docs/reference.

Run by ``make generate``; ``--check`` writes nothing and fails when a page is not what would be written. Log
lines are read from the code and described in docs/reference/log-events.toml; metrics tell themselves, once every module is
imported and a service called ``SERVICE`` has set everything up; ``settings_page`` makes the third.
"""

import importlib
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import settings_page
from log_events import Found, find
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric

import huleedu_service_libs
from huleedu_service_libs import _metrics
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.database.metrics import DatabaseMetrics
from huleedu_service_libs.middleware import http_collectors
from huleedu_service_libs.resilience.metrics import StandardCircuitBreakerMetrics

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "libs/huleedu_service_libs/src/huleedu_service_libs"
REFERENCE = ROOT / "docs/reference"
DESCRIPTIONS = REFERENCE / "log-events.toml"
NOTE = "<!-- Made by `make generate`; change the code or log-events.toml. -->"

# `part_what_happened`; the tokens of the idempotency decorator are older than this library, and may be followed by a remark.
NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
TOKEN = re.compile(r"[A-Z]+(?:_[A-Z]+)+(?:: [^.]+)?")
_METRIC = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)+")
_SERVICE = "SERVICE"
_UNITS = ("_seconds", "_bytes", "_size", "_commands", "_events", "_records")
_OURS = re.compile(r"(?:huleedu|outbox|inbox|idempotency|trace|http|websocket|circuit_breaker|SERVICE)_")
_WITHOUT = re.compile(r"__main__$|_libs\.(?:testing|cli)\b")  # programs and tools for tests register nothing
_PARTS = {
    "circuit_breaker": "circuit breakers",
    "http": "HTTP",
    "huleedu": "consumers, clients, health, console",
    "idempotency": "idempotency",
    "inbox": "inbox",
    "outbox": "outbox",
    "trace": "traces",
    "websocket": "WebSockets",
    _SERVICE: "a service's own, with its name in front",
}


def faults() -> list[str]:
    """What is not as it should be: names out of style, lines without description, descriptions without line."""
    found = find(PACKAGE)
    events, described = {each.event for each in found}, set(_descriptions())
    return [
        *(f"{each!r} is no name such as outbox_event_parked" for each in sorted(events) if not _is_name(each)),
        *(f"{each!r} is logged: describe it in {DESCRIPTIONS.name}" for each in sorted(events - described)),
        *(f"{each!r} is described, but nothing logs it" for each in sorted(described - events)),
        *(f"metric {each.name}: {fault}" for each in metrics() for fault in _metric_faults(each)),
        *settings_page.faults(),
    ]


def outputs() -> dict[Path, str]:
    """All pages."""
    return {
        REFERENCE / "log-events.md": events_page(find(PACKAGE)),
        REFERENCE / "metrics.md": metrics_page(metrics()),
        settings_page.PATH: settings_page.page(),
    }


def _is_name(event: str) -> bool:
    return bool(NAME.fullmatch(event) or TOKEN.fullmatch(event))


def _descriptions() -> dict[str, dict[str, str]]:
    return tomllib.loads(DESCRIPTIONS.read_text(encoding="utf-8"))


def events_page(found: Iterable[Found]) -> str:
    """A table for each part of the library."""
    described = _descriptions()
    lines = [
        NOTE,
        "",
        "# Log lines",
        "",
        (
            "What stands under `event` in a line of this library, and what to do about it. Every line also has `level`, `timestamp`, "
            "`service_name`, `service_version`, `environment`, `logger_name` and its place in the code, inside a request or an event "
            "`correlation_id`, `trace_id` and `span_id`; errors stand under `error`, tracebacks under `exception`."
        ),
        "",
        (
            "What fails again and again by itself has a line when it begins, another for each further kind of error, reminders after a minute, "
            "then after twice as long each time, up to an hour, and one when it is over: `…_trouble_over` with its `failures` and `seconds`. "
            "Counters count every failure."
        ),
    ]
    ordered = sorted(found, key=lambda each: (each.module.split(".")[0], each.event))
    for part, of_part in groupby(ordered, key=lambda each: each.module.split(".")[0]):
        lines += ["", f"## `{part}`", "", "| event | level | means | do |", "|---|---|---|---|"]
        for event, places in groupby(of_part, key=lambda each: each.event):
            said = described.get(event, {})
            levels = ", ".join(sorted({each.level for each in places}))
            lines.append(f"| `{event}` | {levels} | {said.get('means', '')} | {said.get('do', '')} |")
    return "\n".join(lines) + "\n"


def metrics() -> list[Metric]:
    """What the library registers for a service that has set everything up, by name."""
    for module in pkgutil.walk_packages(huleedu_service_libs.__path__, "huleedu_service_libs."):
        if not _WITHOUT.search(module.name):
            importlib.import_module(module.name)
    DatabaseMetrics(_SERVICE)
    EngineMetrics(_SERVICE)
    http = CollectorRegistry()
    http_collectors.ours(http)
    http_collectors.prefixed_ones(_SERVICE, http)
    breakers = CollectorRegistry()
    StandardCircuitBreakerMetrics(registry=breakers)
    found = {each.name: each for registry in (REGISTRY, http, breakers) for each in _described(registry)}
    return [found[name] for name in sorted(found)]


def _described(registry: CollectorRegistry) -> Iterator[Metric]:
    ours = set(map(id, _metrics._made.get(registry, {}).values()))  # noqa: SLF001  # what was made by us
    for collector in list(registry._collector_to_names):  # noqa: SLF001  # there is no public way to list them
        labels = getattr(collector, "_labelnames", None)
        if id(collector) in ours or type(collector).__module__.startswith("huleedu_service_libs"):
            for metric in getattr(collector, "describe", collector.collect)():
                if labels is not None:
                    vars(metric)["_labelnames"] = labels  # families have it already
                yield metric


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{each}`" for each in getattr(metric, "_labelnames", ()))


def _metric_faults(metric: Metric) -> Iterator[str]:
    name = metric.name.removeprefix(f"{_SERVICE}_")
    if not _METRIC.fullmatch(name) or not _OURS.match(metric.name):
        yield "names are part_what_unit, beginning with a part that is listed here"
    if metric.type == "histogram" and not name.endswith(_UNITS):
        yield f"a histogram ends with its unit, one of {', '.join(_UNITS)}"
    if not metric.documentation:
        yield "it has no description"


def metrics_page(found: Iterable[Metric]) -> str:
    """A table for each part."""
    lines = [
        NOTE,
        "",
        "# Metrics",
        "",
        (
            "What the library registers for a service; `SERVICE` stands for the service's name. A counter is exposed with `_total` "
            "behind its name, a histogram with `_bucket`, `_sum` and `_count`."
        ),
    ]
    part_of = {each.name: next(part for part in _PARTS if each.name.startswith(f"{part}_")) for each in found}
    ordered = sorted(found, key=lambda each: (part_of[each.name], each.name))
    for part, of_part in groupby(ordered, key=lambda each: part_of[each.name]):
        lines += ["", f"## {_PARTS[part]}", "", "| metric | type | labels | what |", "|---|---|---|---|"]
        for each in of_part:
            name = f"{each.name}_total" if each.type == "counter" else each.name
            lines.append(f"| `{name}` | {each.type} | {_labels(each)} | {each.documentation.removesuffix('.')} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the pages, or say what is wrong."""
    wrong = faults()
    stale = [path for path, text in outputs().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        wrong += [f"{path.relative_to(ROOT)} is not current: run `make generate`" for path in stale]
    else:
        for path in stale:
            path.write_text(outputs()[path], encoding="utf-8")
            print(path.relative_to(ROOT))
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
