"""Puts the results into the tables of docs/benchmarks.md.

Run by ``make bench-docs``, behind ``make bench``. Each subject has a place there, between ``<!-- results: SUBJECT -->`` and
``<!-- end of results -->``; what stands in between is replaced by the tables of ``benchmarks/results/SUBJECT.json``. A subject without a
result keeps what it has, and results of the short form, whose figures say nothing, are refused. The words around are people's, and
quote no figure of a table.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from every_subject import rows, subjects

from harness import RESULTS

__all__ = ["PAGE", "figure_text", "places", "replaced", "table"]

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_PLACE = re.compile(r"(<!-- results: (\w+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)
_ONE = re.compile(r"\b1 tasks\b")
_THOUSAND, _TEN = 1_000, 10
_BARE = ("bare", "bare call")


def places(page: str) -> list[str]:
    """The subjects that have a place on the page, in its order."""
    return [found[2] for found in _PLACE.finditer(page)]


def figure_text(value: float) -> str:
    """With as many digits as mean something; thousands apart."""
    size = abs(value)
    if size >= _THOUSAND:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.0f}" if size >= _TEN * _TEN else f"{value:.1f}" if size >= _TEN else f"{value:.2f}"


def table(result: dict[str, Any]) -> str:
    """What was measured, a table for each part, what was measured beside, and on what it was."""
    return "\n\n".join([f"In {result['unit']}.", *_parts(result), *_beside(result), _origin(result)]) + "\n"


def _parts(result: dict[str, Any]) -> Iterator[str]:
    for part, found in groupby(rows(result), key=lambda row: row[0]):
        lines = list(found)
        figures = result["parts"][part]
        title = _ONE.sub("1 task", part)
        if all("added_us" in row for row in figures.values()):
            yield "\n".join(_pairs(title, figures))
            continue
        _, own, figure, *_ = lines[0]
        shown = {own: (figure, None), **{name: (its, better) for _, _, _, name, its, better in lines if name}}
        spread = {name: row["spread"] for name, row in figures.items()}
        bare = next((its for name, (its, _) in shown.items() if name in _BARE), None)
        yield "\n".join(_part(title, own, shown, spread, bare))


def _part(
    title: str, own: str, shown: Mapping[str, tuple[float, float | None]], spread: Mapping[str, Any], bare: float | None
) -> Iterator[str]:
    """With what each adds to the bare thing, where that is measured: then that is what counts."""
    yield f"| {title} | median | spread | ours is |" + ("" if bare is None else " adds | times ours |")
    yield "|---|---:|---:|---:|" + ("" if bare is None else "---:|---:|")
    for name, (its, better) in shown.items():
        label = f"**{name}**" if name == own else name
        line = f"| {label} | {figure_text(its)} | {_spread(spread.get(name))} | {_times(better)} |"
        yield line if bare is None else line + _added(its - bare, shown[own][0] - bare, is_own=name == own)


def _pairs(title: str, figures: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Each subject has a bare neighbour of its own: what it adds is measured, and not the difference of two medians."""
    yield f"| {title} | bare beside it | watched | adds | of bare |"
    yield "|---|---:|---:|---:|---:|"
    for number, (name, row) in enumerate(figures.items()):
        label = name if number else f"**{name}**"
        added = f"{figure_text(row['added_us'])} {_spread(row.get('spread'))}".rstrip()
        yield f"| {label} | {figure_text(row['bare_us'])} | {figure_text(row['median'])} | {added} | {_times(row['of_bare'])} |"


def _beside(result: Mapping[str, Any]) -> Iterator[str]:
    """What the relay's benchmark measures besides: how long an event is on its way, and whether memory stays."""
    if late := result.get("latency"):
        yield (
            "From the addition to the mark, on the database's clock, "
            f"at {figure_text(late['rate'])} events/s: p50 {late['p50_ms']:.1f} ms, p99 {late['p99_ms']:.1f} ms."
        )
    if memory := result.get("resident_mib"):
        yield "Resident memory, MiB: " + ", ".join(f"{when} {figure_text(size)}" for when, size in memory.items()) + "."


def _added(its: float, ours: float, *, is_own: bool) -> str:
    if its <= 0:  # the bare thing itself
        return " | |"
    return f" {figure_text(its)} | {'' if is_own else _times(its / ours)} |"


def _times(better: float | None) -> str:
    return "" if better is None else f"{better:.2f}×"  # noqa: RUF001


def _spread(found: Any) -> str:
    return f"± {figure_text(found)}" if isinstance(found, int | float) and found else ""  # of one round: nobody knows


def _origin(result: dict[str, Any]) -> str:
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    load = machine["load"][0]
    return f"Python {machine['python']}, {machine['cpus']} cores, load {load:.1f} at the end; {versions}."


def replaced(page: str, results: dict[str, dict[str, Any]]) -> str:
    """The page with the tables of ``results`` in their places."""

    def put(found: re.Match[str]) -> str:
        result = results.get(found[2])
        return found[0] if result is None else f"{found[1]}\n{table(result)}\n{found[4]}"

    return _PLACE.sub(put, page)


def _results() -> dict[str, dict[str, Any]]:
    paths = {subject: RESULTS / f"{subject}.json" for subject in subjects()}
    return {subject: json.loads(path.read_text()) for subject, path in paths.items() if path.exists()}


def main() -> int:
    """Replace, and say what stayed as it was."""
    page = PAGE.read_text()
    found = _results()
    results = {subject: result for subject, result in found.items() if not result.get("short")}
    PAGE.write_text(replaced(page, results))
    for subject in places(page):
        why = (
            ""
            if subject in results
            else "kept: its result is of the short form"
            if subject in found
            else "kept: no result"
        )
        print(f"bench-docs: {subject:<16}{why or 'written'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
