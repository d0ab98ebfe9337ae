"""The table of a run, and ``chaos/results.json``."""

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chaos.world import Result
from huleedu_service_libs.testing.chaos.oracle import percentile

__all__ = ["RESULTS", "Report", "figures_of", "line", "title"]

RESULTS = Path(__file__).parents[2] / "chaos" / "results.json"

_COLUMNS = ("kills", "events", "lost", "reordered", "doubled", "phantoms", "dup max", "p50 s", "p99 s")
_SUMS = ("kills", "events", "lost", "reordered", "doubled", "repeated", "phantoms", "wire_duplicates", "missed")


def figures_of(result: Result) -> dict[str, Any]:
    """The figures of a phase."""
    verdict = result.verdict
    return {
        "kills": len(result.kills),
        "events": verdict.events,
        "lost": verdict.lost,
        "reordered": verdict.reordered,
        "doubled": len(verdict.doubled),
        "repeated": len(verdict.repeated),
        "phantoms": len(verdict.phantoms),
        "wire_duplicates": verdict.wire_duplicates,
        "wire_duplicates_max": verdict.wire_duplicates_max,
        "recoveries": [round(seconds, 3) for seconds in verdict.recoveries],
        "recovery_p50_s": round(percentile(verdict.recoveries, 0.5), 3),
        "recovery_p99_s": round(percentile(verdict.recoveries, 0.99), 3),
        "missed": result.missed,
        "drained": result.drained,
    }


def together(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of several phases as those of one."""
    recoveries = [seconds for one in figures for seconds in one["recoveries"]]
    return {
        **{name: sum(one.get(name, 0) for one in figures) for name in _SUMS},
        "wire_duplicates_max": max((one["wire_duplicates_max"] for one in figures), default=0),
        "recoveries": recoveries,
        "recovery_p50_s": round(percentile(recoveries, 0.5), 3),
        "recovery_p99_s": round(percentile(recoveries, 0.99), 3),
        "drained": all(one["drained"] for one in figures),
    }


def title() -> str:
    """The head of the table."""
    return f"{'':<46}" + "".join(f"{name:>10}" for name in _COLUMNS)


def line(name: str, figures: Mapping[str, Any]) -> str:
    """One line of the table."""
    values = [figures[column] for column in _COLUMNS[:6]]
    values += [figures["wire_duplicates_max"], figures["recovery_p50_s"], figures["recovery_p99_s"]]
    end = f"  repeated: {figures['repeated']}" if figures.get("repeated") else ""
    end += "" if figures["drained"] else "  NOT DRAINED"
    return f"{name:<46}" + "".join(f"{value:>10,}" for value in values) + end


class Report:
    """What a run came to so far; kept in a file, so that nothing is lost when it is interrupted.

    Args:
        path: The file.
        command: What was called.
        merge: Add to what the file holds.
    """

    def __init__(self, path: Path, command: Sequence[str], *, merge: bool) -> None:
        self.path = path
        self.found: dict[str, bool] = {}
        self._command = " ".join(command)
        self._phases: dict[str, dict[str, Any]] = {}
        if merge and path.exists():
            self._phases = json.loads(path.read_text(encoding="utf-8"))["points"]

    def add(self, name: str, figures: Mapping[str, Any]) -> None:
        """Take the figures of a phase in, and write the file."""
        known = [self._phases[name]] if name in self._phases else []
        self._phases[name] = together([*known, figures])
        self.write()

    def in_all(self) -> dict[str, Any]:
        """The figures of all phases together."""
        return together(list(self._phases.values()))

    def lines(self) -> list[str]:
        """The table."""
        return [title(), *(line(name, one) for name, one in self._phases.items()), line("in all", self.in_all())]

    @property
    def good(self) -> bool:
        """Whether nothing was lost, reordered, doubled or made up, and every sabotage was found out."""
        total = self.in_all()
        bad = any(total[name] for name in ("lost", "reordered", "doubled", "phantoms"))
        return not bad and total["drained"] and all(self.found.values())

    def write(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        machine = {"cpus": os.cpu_count(), "python": sys.version.split()[0], "system": platform.system()}
        total = {name: value for name, value in self.in_all().items() if name != "recoveries"}
        content = {
            **total,
            "points": self._phases,
            "sabotage_found": self.found,
            "command": self._command,
            "machine": machine,
        }
        self.path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
