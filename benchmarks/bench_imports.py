"""How long importing takes: the root, what services import, and each module of the package.

Run by ``make bench SUBJECT=imports``. Every import in a fresh interpreter and in turn; CPU time, files in the page cache and compiled.
The root imports nothing before a name is asked for; of the others every name is asked for. A module cannot be quicker than
what it loads of others: the peer of each is those modules alone, as found by importing it once. What
each single module takes itself says ``-X importtime``, which lists it without what it imports.
"""

import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import huleedu_service_libs
from harness import in_short, versions_of, write_result

ROUNDS = in_short(2, 1)  # an interpreter takes a second: more would not fit into two minutes
LISTINGS = in_short(3, 1)
ROOT = "huleedu_service_libs"
SHOWN = 10
ENTRANCES = (
    "", "config", "database", "di", "error_handling", "event_utils", "health", "http_client", "idempotency_v2", "inbox",
    "kafka.consumer", "kafka_client", "logging_utils", "metrics_middleware", "middleware.frameworks.fastapi_middleware",
    "observability", "outbox", "protocols", "queue_redis_client", "quart_app", "redis_client", "redis_pubsub",
    "redis_set_operations", "resilience",
)  # fmt: skip

_TIMED = """
import sys, time
before = set(sys.modules)
begun = time.process_time_ns()
{statements}
print(time.process_time_ns() - begun)
print(*[name for name in sys.modules if name not in before and name.partition(".")[0] not in {known!r}])
"""
_NOT_OTHERS = {ROOT, "common_core", *sys.stdlib_module_names}
# Some are made by their package, and cannot be imported by name.
_EACH = """
import importlib
for name in {names!r}:
    try: importlib.import_module(name)
    except ImportError: pass
"""


def _python(code: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  # our own text


def statement(name: str) -> str:
    """Packages of ours import a part when one of its names is asked for: here all are, except of the root."""
    return f"from {name} import *" if name.startswith(f"{ROOT}.") else f"import {name}"


def timed(statements: str) -> tuple[float, list[str]]:
    """Milliseconds of CPU that they take in a fresh interpreter, and what they load of others, in that order."""
    spent, found = _python(_TIMED.format(statements=statements, known=_NOT_OTHERS)).stdout.splitlines()
    return int(spent) / 1e6, found.split()


def entrances() -> dict[str, dict[str, Any]]:
    """What services import, each beside what it loads of others."""
    names = [f"{ROOT}.{name}".rstrip(".") for name in ENTRANCES[: in_short(len(ENTRANCES), 5)]]
    samples: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in names}
    for _ in range(ROUNDS):
        for name in names:
            spent, loaded = timed(statement(name))
            samples[name]["ours"].append(spent)
            if loaded:
                samples[name]["ceiling: what it loads of others"].append(timed(_others(loaded))[0])
    return {name: {kind: _row(times) for kind, times in rows.items()} for name, rows in samples.items()}


def _others(names: Sequence[str]) -> str:
    return _EACH.format(names=list(names))


def modules() -> list[str]:
    """Every module of the package, but for those that are programs."""
    folder = Path(huleedu_service_libs.__file__).parent
    paths = [path.relative_to(folder).with_suffix("").parts for path in sorted(folder.rglob("*.py"))]
    found = [".".join([ROOT, *(part for part in parts if part != "__init__")]) for parts in paths]
    return [name for name in found if not name.endswith("__main__")]


def each_module() -> dict[str, float]:
    """Milliseconds that each takes itself, without what it imports: the least of several listings.

    Without collector: a full collection would count as the time of whatever module it happens to fall upon.
    """
    statements = [f"import {name}" for name in modules()]  # what `import_module` imports is not listed
    code = "\n".join(["import gc; gc.disable()", *statements])
    samples: dict[str, list[float]] = defaultdict(list)
    for _ in range(LISTINGS):
        for line in _python(code, "-X", "importtime").stderr.splitlines():
            own, _, name = line.removeprefix("import time:").split("|") if line.count("|") == 2 else ("", "", "")  # noqa: PLR2004
            if own.strip().isdigit() and name.strip().startswith(ROOT):
                samples[name.strip()].append(int(own) / 1e3)
    return {name: round(min(times), 3) for name, times in samples.items()}


def _row(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 1),
        "spread": round(max(times) - min(times), 1),
        "best": round(min(times), 1),
    }


def _print(parts: dict[str, Any], own: dict[str, float]) -> None:
    print(f"  {'module':<44}{'ms':>8}{'± ms':>8}{'others':>8}{'ratio':>7}")
    for name, rows in parts.items():
        ours, other = rows["ours"], rows.get("ceiling: what it loads of others")
        compared = f"{other['median']:>8.1f}{ours['median'] / other['median']:>7.2f}" if other else ""
        print(f"  {name.removeprefix(ROOT + '.'):<44}{ours['median']:>8.1f}{ours['spread']:>8.1f}{compared}")
    slowest = sorted(own, key=lambda name: -own[name])[:SHOWN]
    print(f"\n  {len(own)} modules take {sum(own.values()):.0f} ms themselves, all together; most take")
    for name in slowest:
        print(f"  {name.removeprefix(ROOT + '.'):<44}{own[name]:>8.1f}")


def main() -> None:
    """Measure, print, write."""
    own = each_module()  # first: afterwards all are compiled, and their files in the page cache
    parts = entrances()
    _print(parts, own)
    content = {"unit": "ms of CPU an import in a fresh interpreter (median)", "parts": parts, "modules": own}
    path = write_result(
        "imports", {**content, "versions": versions_of(["aiokafka", "redis", "sqlalchemy", "pydantic", "structlog"])}
    )
    print(f"\n{path}")


if __name__ == "__main__":
    main()
