"""How long importing takes: the package's root, each of its public modules, and the libraries that they wrap.

Run by ``make bench SUBJECT=imports``. Each import in a fresh interpreter, whose own start is taken off; files are in the
page cache and compiled. The root imports nothing before a name is asked for; of the others every
name is asked for. A module cannot be faster than the library
that it wraps: the peer of each is that library alone.
"""

import statistics
import subprocess
import sys
import time
from typing import Any

from harness import in_short, versions_of, write_result

ROUNDS = in_short(7, 1)
ROOT = "huleedu_service_libs"
WRAPPED = {  # module: what it wraps
    "": None,
    "kafka_client": "aiokafka",
    "redis_client": "redis.asyncio",
    "outbox": "sqlalchemy.ext.asyncio",
    "database": "sqlalchemy.ext.asyncio",
    "inbox": "sqlalchemy.ext.asyncio",
    "idempotency_v2": "redis.asyncio",
    "kafka.consumer": "aiokafka",
    "http_client": "aiohttp",
    "logging_utils": "structlog",
    "observability": "opentelemetry.trace",
    "error_handling": "pydantic",
    "resilience": "prometheus_client",
    "event_utils": "pydantic",
    "protocols": "pydantic",
    "metrics_middleware": "quart",
    "quart_app": "quart",
    "middleware.frameworks.fastapi_middleware": "fastapi",
    "di": "dishka",
}


def _statement(name: str) -> str:
    """Packages of ours import a part when one of its names is asked for: here all are, except of the root."""
    return f"from {name} import *" if name.startswith(f"{ROOT}.") else f"import {name}"


def _seconds(statement: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, stdout=subprocess.DEVNULL)  # noqa: S603  # our own text
    return time.perf_counter() - started


def measure() -> dict[str, list[float]]:
    """Milliseconds of each import, round by round, in turn."""
    modules = {f"{ROOT}.{name}".rstrip(".") for name in WRAPPED}
    names = sorted(modules | {peer for peer in WRAPPED.values() if peer})
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1 if ROUNDS > 1 else 1):
        empty = _seconds("pass")
        for name in names:
            took = (_seconds(_statement(name)) - empty) * 1000
            if number or ROUNDS == 1:  # the first one compiles
                samples[name].append(took)
    return samples


def main() -> None:
    """Measure, print, write."""
    samples = measure()
    parts: dict[str, Any] = {}
    print(f"  {'module':<44}{'ms':>8}{'best':>8}   wraps")
    for name, peer in WRAPPED.items():
        module = f"{ROOT}.{name}".rstrip(".")
        rows = {"ours": _row(samples[module])}
        wraps = ""
        if peer:
            rows[f"ceiling: {peer}"] = _row(samples[peer])
            wraps = f"{peer} ({rows[f'ceiling: {peer}']['median']:.0f} ms)"
        parts[module] = rows
        print(
            f"  {module.removeprefix(ROOT + '.'):<44}{rows['ours']['median']:>8.1f}{rows['ours']['best']:>8.1f}   {wraps}"
        )
    content = {"unit": "ms of an import in a fresh interpreter (median)", "parts": parts}
    print(f"\n{write_result('imports', {**content, 'versions': versions_of(['aiokafka', 'redis', 'sqlalchemy'])})}")


def _row(times: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(times), 1),
        "spread": round(max(times) - min(times), 1),
        "best": round(min(times), 1),
    }


if __name__ == "__main__":
    main()
