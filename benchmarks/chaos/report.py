"""The table of a run, and ``chaos/results.json``."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.phase import Result
from huleedu_service_libs.testing.chaos.oracle import percentile

__all__ = ["figures_of", "in_all", "line", "title", "write"]

_COLUMNS = ("kills", "events", "lost", "reordered", "doubled", "phantoms", "dup max", "p50 s", "p99 s")
_SUMS = ("kills", "events", "lost", "reordered", "doubled", "phantoms", "wire_duplicates", "missed")


def figures_of(result: Result) -> dict[str, Any]:
    """The figures of a phase."""
    verdict = result.verdict
    return {
        "kills": len(result.kills),
        "events": verdict.events,
        "lost": verdict.lost,
        "reordered": verdict.reordered,
        "doubled": len(verdict.doubled),
        "phantoms": len(verdict.phantoms),
        "wire_duplicates": verdict.wire_duplicates,
        "wire_duplicates_max": verdict.wire_duplicates_max,
        "recoveries": [round(seconds, 3) for seconds in verdict.recoveries],
        "recovery_p50_s": round(percentile(verdict.recoveries, 0.5), 3),
        "recovery_p99_s": round(percentile(verdict.recoveries, 0.99), 3),
        "missed": result.missed,
        "drained": result.drained,
    }


def in_all(phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of all phases together."""
    recoveries = [seconds for one in phases.values() for seconds in one["recoveries"]]
    return {
        **{name: sum(one[name] for one in phases.values()) for name in _SUMS},
        "wire_duplicates_max": max((one["wire_duplicates_max"] for one in phases.values()), default=0),
        "recovery_p50_s": round(percentile(recoveries, 0.5), 3),
        "recovery_p99_s": round(percentile(recoveries, 0.99), 3),
        "drained": all(one["drained"] for one in phases.values()),
    }


def title() -> str:
    """The head of the table."""
    return f"{'':<46}" + "".join(f"{name:>10}" for name in _COLUMNS)


def line(name: str, figures: Mapping[str, Any]) -> str:
    """One line of the table."""
    values = [figures[column] for column in _COLUMNS[:6]]
    values += [figures["wire_duplicates_max"], figures["recovery_p50_s"], figures["recovery_p99_s"]]
    end = "" if figures["drained"] else "  NOT DRAINED"
    return f"{name:<46}" + "".join(f"{value:>10,}" for value in values) + end


def write(
    path: Path, phases: Mapping[str, Mapping[str, Any]], found: Mapping[str, bool], command: Sequence[str]
) -> None:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "system": platform.system()}
    content = {
        **in_all(phases),
        "points": phases,
        "sabotage_found": found,
        "command": " ".join(command),
        "machine": machine,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
