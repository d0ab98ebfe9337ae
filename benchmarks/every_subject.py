"""Runs every benchmark, one after the other, and prints one table of all results.

Run by ``make bench`` without ``SUBJECT``. ``--short`` runs each with a few calls, to see that none rots: CI does that,
and two run at a time, since those figures say nothing.
A subject that fails does not stop the others; the exit status tells.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import RESULTS

HERE = Path(__file__).parent
LIMIT_S = 240.0
FIELDS = {"subject", "unit", "ours", "peers", "ceiling", "ratios", "spread", "versions", "machine"}


def subjects() -> list[str]:
    """Names of all benchmarks."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(subject: str, *, short: bool) -> str | None:
    """Run one; what went wrong, if anything did."""
    (RESULTS / f"{subject}.json").unlink(missing_ok=True)
    environment = {**os.environ, **({"BENCH_SHORT": "1"} if short else {})}
    command = [sys.executable, str(HERE / f"bench_{subject}.py")]
    try:
        done = subprocess.run(  # noqa: S603  # our own files
            command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not done within {LIMIT_S:g} s"
    if done.returncode:
        return f"ended with {done.returncode}:\n{done.stderr[-2_000:]}"
    return fault_of(subject)


def told(subject: str, *, short: bool) -> str | None:
    """Run one and print how long it took; what went wrong, if anything did."""
    started = time.monotonic()
    fault = run(subject, short=short)
    print(f"bench: {subject:<16}{time.monotonic() - started:>6.1f} s  {'failed' if fault else 'done'}", flush=True)
    return fault


def fault_of(subject: str) -> str | None:
    """What the written result lacks, if anything."""
    path = RESULTS / f"{subject}.json"
    if not path.exists():
        return f"wrote no {path.name}"
    missing = FIELDS - set(json.loads(path.read_text()))
    return f"{path.name} lacks {', '.join(sorted(missing))}" if missing else None


def rows(result: dict[str, Any]) -> Iterator[tuple[str, str, float, str, float, float | None]]:
    """Part, name of ours, its figure, each peer (or ceiling) with its figure and how many times better ours is."""
    rate = "/s" in result["unit"] or "per second" in result["unit"]
    for part, figures in result["parts"].items():
        medians = {name: float(row["median"]) for name, row in figures.items()}
        own = next((name for name in medians if name.startswith("ours")), None)
        if own is None:
            continue
        others = [name for name in medians if name != own]  # of ours too: with more or less switched on
        for name in others:
            better = medians[own] / medians[name] if rate else medians[name] / medians[own]
            yield part, own, medians[own], name, medians[name], better
        if not others:
            yield part, own, medians[own], "", 0.0, None


def show() -> None:
    """One table of all results that are there."""
    print(f"\n{'subject':<44}{'ours':>12}  {'beside':<48}{'its figure':>12}{'ours is':>10}")
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        print(f"\n{result['subject']}: {result['unit']}")
        for part, _, figure, other, its, better in rows(result):
            ratio = "" if better is None else f"{better:.2f}x"
            its_figure = f"{its:.1f}" if other else ""
            print(f"  {part[:42]:<42}{figure:>12.1f}  {other[:47]:<48}{its_figure:>12}{ratio:>10}")


def main() -> int:
    """Run, print, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few calls each: only whether they run")
    short = parser.parse_args().short
    with ThreadPoolExecutor(max_workers=2 if short else 1) as pool:
        faults = dict(zip(subjects(), pool.map(lambda subject: told(subject, short=short), subjects()), strict=True))
    failed = {subject: fault for subject, fault in faults.items() if fault}
    show()
    for subject, fault in failed.items():
        print(f"\nbench: {subject} {fault}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
