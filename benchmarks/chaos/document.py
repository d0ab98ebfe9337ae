"""Puts the table of the last long run into docs/concepts/chaos.md: ``make chaos-docs``."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chaos.report import RESULTS

__all__ = ["main", "table"]

_PAGE = Path(__file__).parents[2] / "docs/concepts/chaos.md"
_BEGIN, _END = "<!-- results: chaos -->\n", "<!-- end of results -->"
_HEAD = (
    "| | kills | events | lost | reordered | doubled | repeated | phantoms | dup max | p50 s | p99 s |\n"
    "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
)
_COLUMNS = ("kills", "events", "lost", "reordered", "doubled", "repeated", "phantoms", "wire_duplicates_max")


def table(results: Mapping[str, Any]) -> str:
    """The results as Markdown, with the command that made them."""
    rows = [_row(name, figures) for name, figures in results["points"].items()]
    machine = results["machine"]
    made_by = f"`{results['command']}`, {machine['cpus']} CPUs, Python {machine['python']}:"
    return f"{made_by}\n\n{_HEAD}{''.join(rows)}{_row('**in all**', results)}"


def _row(name: str, figures: Mapping[str, Any]) -> str:
    counts = [f"{figures[column]:,}" for column in _COLUMNS]
    seconds = [f"{figures[column]:.1f}" for column in ("recovery_p50_s", "recovery_p99_s")]
    undrained = "" if figures["drained"] else " (NOT DRAINED)"
    return f"| {name}{undrained} | {' | '.join([*counts, *seconds])} |\n"


def main() -> int:
    """Fill the page in; 1 when there are no results."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    if not path.exists():
        print(f"No results at {path}: run `make chaos` first", file=sys.stderr)
        return 1
    page = _PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    results = json.loads(path.read_text(encoding="utf-8"))
    _PAGE.write_text(f"{before}{_BEGIN}{table(results)}{_END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
