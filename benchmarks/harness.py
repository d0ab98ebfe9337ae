"""What the benchmarks share: rounds in turn over all subjects, medians, a table, and a file with the machine's facts."""

import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = [
    "RESULTS",
    "Figure",
    "figure",
    "in_short",
    "measure",
    "peak_bytes",
    "print_table",
    "rates_of",
    "rows_of",
    "versions_of",
    "write_result",
]

RESULTS = Path(__file__).parent / "results"
IS_SHORT = bool(os.environ.get("BENCH_SHORT"))
"""Whether every subject is only to show that it still runs; such figures say nothing."""

_CEILINGS = ("bare", "ceiling")

Call = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Times of one subject, ns a call.

    Attributes:
        median: Of the rounds.
        spread: Between the 25th and the 75th percentile.
        best: The fastest round: what is left when nobody disturbs.
    """

    median: float
    spread: float
    best: float


async def measure(
    subjects: Mapping[str, Call], *, rounds: int, calls: int, clock: Callable[[], int] = time.perf_counter_ns
) -> dict[str, Figure]:
    """Time ``calls`` calls of each subject, one subject after the other, ``rounds`` times over.

    In turn, so that a slow moment of the machine meets all of them.

    Args:
        subjects: By name.
        rounds: How often each has its turn.
        calls: Of each turn.
        clock: In ns; ``time.process_time_ns`` counts what this process computes and not what it waits for.
    """
    rounds, calls = in_short(rounds, 2), in_short(calls, min(calls, 5))
    for call in subjects.values():
        await _once(call, calls, clock)  # warm
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            samples[name].append(await _once(call, calls, clock))
    return {name: figure(times) for name, times in samples.items()}


async def _once(call: Call, calls: int, clock: Callable[[], int]) -> float:
    started = clock()
    for _ in range(calls):
        await call()
    return (clock() - started) / calls


def in_short(full: int, short: int) -> int:
    """``full``, or ``short`` in the short form."""
    return short if IS_SHORT else full


def figure(times: Sequence[float]) -> Figure:
    """Of the rounds' times, ns a call."""
    quarters = statistics.quantiles(times, n=4)
    return Figure(median=statistics.median(times), spread=quarters[2] - quarters[0], best=min(times))


async def peak_bytes(call: Call) -> int:
    """Bytes that one call holds at its most, beyond what was there before."""
    for _ in range(50):
        await call()
    tracemalloc.start()
    try:
        peaks = []
        for _ in range(20):
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            await call()
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        return min(peaks)
    finally:
        tracemalloc.stop()


def print_table(title: str, figures: Mapping[str, Figure], extra: Mapping[str, int], first: str) -> None:
    """Print the figures, with the ratio to ``first``."""
    print(f"\n{title}")
    print(f"  {'':<44}{'median ns':>10}{'± ns':>8}{'best ns':>9}{'bytes':>8}{'ratio':>8}")
    for name, each in figures.items():
        ratio = each.median / figures[first].median
        size = extra.get(name, 0)
        print(f"  {name:<44}{each.median:>10.0f}{each.spread:>8.0f}{each.best:>9.0f}{size:>8}{ratio:>8.2f}")


def versions_of(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions."""
    return {package: metadata.version(package) for package in packages}


def rows_of(figures: Mapping[str, Figure], *, scale: float = 1.0) -> dict[str, dict[str, float]]:
    """What a result keeps of each figure, times ``scale``."""
    return {
        name: {"median": each.median * scale, "spread": each.spread * scale, "best": each.best * scale}
        for name, each in figures.items()
    }


def rates_of(figures: Mapping[str, Figure], counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """The same for what is better the more of it there is in a second.

    Args:
        figures: Of rounds.
        counts: How many each does in a round, by name.
    """
    return {
        name: {
            "median": round(rate := counts[name] / each.median * 1e9),
            "spread": round(each.spread / each.median * rate),
            "best": round(counts[name] / each.best * 1e9),
        }
        for name, each in figures.items()
    }


def write_result(subject: str, content: Mapping[str, Any]) -> Path:
    """Write ``results/<subject>.json``: ``ours``, ``peers``, ``ceiling``, ``ratios`` and ``spread`` by part and name.

    Args:
        subject: Name of the benchmark.
        content: ``unit``, ``versions`` and ``parts``: rows with ``median`` and ``spread`` by part and name, from which the
            others are taken. Names of ours begin with "ours", those of ceilings with "bare" or "ceiling"; what stands in
            it besides is kept.
    """
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{subject}.json"
    machine = {
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "machine": platform.machine(),
        "python": sys.version.split()[0],
        "system": platform.platform(),
    }
    whole = {"subject": subject, "short": IS_SHORT, **_of_parts(content), **content, "machine": machine}
    path.write_text(json.dumps(whole, indent=2) + "\n")
    return path


def _of_parts(content: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that every result has, from the parts: by part and name; no ceiling where there is none."""
    found: dict[str, dict[str, Any]] = {"ours": {}, "peers": {}, "ceiling": {}, "ratios": {}, "spread": {}}
    is_rate = "/s" in content["unit"] or "per second" in content["unit"]
    for part, rows in content["parts"].items():
        own = next((row["median"] for name, row in rows.items() if name.startswith("ours")), None)
        for name, row in rows.items():
            kind = "ours" if name.startswith("ours") else "ceiling" if name.startswith(_CEILINGS) else "peers"
            found[kind].setdefault(part, {})[name] = row["median"]
            found["spread"].setdefault(part, {})[name] = row["spread"]
            if kind != "ours" and own and row["median"]:
                better = own / row["median"] if is_rate else row["median"] / own
                found["ratios"].setdefault(part, {})[name] = round(better, 2)
    return {**found, "ceiling": found["ceiling"] or None}
