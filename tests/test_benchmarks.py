"""The benchmarks: that all have a place in the whole, and what their results hold."""

import json
from pathlib import Path
from typing import Any

import bench_imports
import every_subject
import in_docs
import pytest

import harness

REQUIRED = {
    "relay", "outbox_insert", "consume", "kafka_publish", "redis", "breaker", "errors", "log", "http", "encoding", "imports",
}  # fmt: skip


def test_every_subject_is_found() -> None:
    """Whatever the package claims to be quick at has a benchmark that `make bench` runs."""
    assert set(every_subject.subjects()) >= REQUIRED


@pytest.mark.parametrize(("unit", "better"), [("events/s", 4.0), ("ns a call", 0.25)])
def test_a_result_tells_how_many_times_better_ours_is(
    unit: str, better: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All fields are taken from the parts; more is better for rates, less for times."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    rows = {name: {"median": at, "spread": 1.0} for name, at in (("ours", 8.0), ("peer", 2.0), ("ceiling: bare", 16.0))}
    path = harness.write_result("x", {"unit": unit, "parts": {"p": rows}, "versions": {}})
    result = json.loads(path.read_text())
    assert set(result) >= every_subject.FIELDS
    assert (result["ours"], result["peers"]) == ({"p": {"ours": 8.0}}, {"p": {"peer": 2.0}})
    assert (result["subject"], result["unit"], result["ceiling"]) == ("x", unit, {"p": {"ceiling: bare": 16.0}})
    assert result["spread"] == {"p": dict.fromkeys(rows, 1.0)}
    assert result["ratios"]["p"]["peer"] == better
    assert [row[-1] for row in every_subject.rows(result)] == [better, better / 8 if better > 1 else 2.0]


def test_a_result_without_ceiling_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The field is there, and empty."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    parts = {"p": {"ours": {"median": 8.0, "spread": 1.0}}}
    path = harness.write_result("x", {"unit": "ns", "parts": parts, "versions": {}})
    assert json.loads(path.read_text())["ceiling"] is None


def test_rates_have_the_spread_of_their_times() -> None:
    """A tenth of the time up and down is a tenth of the rate, and the shortest time is the best rate."""
    figures = {"ours": harness.Figure(median=2e9, spread=2e8, best=1.6e9)}
    assert harness.rates_of(figures, {"ours": 1_000}) == {"ours": {"median": 500, "spread": 50, "best": 625}}


def test_a_benchmark_that_breaks_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that ends with an error, and one that writes nothing, fail by name; neither stops the others."""
    (tmp_path / "bench_broken.py").write_text("raise SystemExit('no broker')")
    (tmp_path / "bench_silent.py").write_text("")
    for module in (every_subject, harness):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setattr(every_subject, "HERE", tmp_path)
    assert every_subject.subjects() == ["broken", "silent"]
    assert "no broker" in str(every_subject.run("broken", short=True))
    assert every_subject.run("silent", short=True) == "wrote no silent.json"


RESULT: dict[str, Any] = {
    "unit": "ns of CPU",
    "parts": {
        "50 tasks": {
            "ours": {"median": 8_123.4, "spread": 120.0},
            "ours, bare": {"median": 10_000.0, "spread": 0.0},
            "peer": {"median": 2_000.0, "spread": 0.0},
        },
        "1 tasks": {"ours": {"median": 3.25, "spread": 0.0}},
        "added": {name: {"median": at, "spread": 0.0} for name, at in (("bare", 10.0), ("ours", 12.0), ("peer", 15.0))},
    },
    "versions": {"aiokafka": "0.14.0"},
    "machine": {"python": "3.11.7", "cpus": 2, "load": [1.25, 1.0, 1.0]},
}
TABLES = """In ns of CPU.

| 50 tasks | median | spread | ours is |
|---|---:|---:|---:|
| **ours** | 8 123 | ± 120 |  |
| ours, bare | 10 000 |  | 1.23× |
| peer | 2 000 |  | 0.25× |

| 1 task | median | spread | ours is |
|---|---:|---:|---:|
| **ours** | 3.25 |  |  |

| added | median | spread | ours is | adds | times ours |
|---|---:|---:|---:|---:|---:|
| **ours** | 12.0 |  |  | 2.00 |  |
| bare | 10.0 |  | 0.83× | | |
| peer | 15.0 |  | 1.25× | 5.00 | 2.50× |

Python 3.11.7, 2 cores, load 1.2 at the end; aiokafka 0.14.0.
"""  # noqa: RUF001


def test_the_page_has_its_tables_from_the_results() -> None:
    """What stands in a subject's place is replaced, however often; other places and the words around stay."""
    page = "words\n<!-- results: relay -->\nold\n<!-- end of results -->\n\n<!-- results: log -->\n| kept |\n<!-- end of results -->\n"
    once = in_docs.replaced(page, {"relay": RESULT})
    assert once == page.replace("old\n", f"\n{TABLES}\n")
    assert in_docs.replaced(once, {"relay": RESULT}) == once


def test_what_is_added_is_told_as_it_was_measured() -> None:
    """Where each subject has a bare neighbour, the page shows the median of their differences, with its doubt."""
    row = {"bare_us": 515.2, "median": 505.8, "added_us": -2.89, "spread": 6.72, "of_bare": 0.994}
    page = in_docs.table({**RESULT, "unit": "µs", "parts": {"postgresql": {"ours: all on": row}}})
    assert "| **ours: all on** | 515 | 506 | -2.89 ± 6.72 | 0.99× |" in page  # noqa: RUF001


def test_latency_and_memory_stand_under_the_table() -> None:
    """What a benchmark measures besides comes from its result, too."""
    late = {"rate": 1_000, "p50_ms": 2.94, "p99_ms": 12.1}
    page = in_docs.table(
        {**RESULT, "latency": late, "resident_mib": {"before": 111.2, "after 100 000 more events": 112.0}}
    )
    assert "at 1 000 events/s: p50 2.9 ms, p99 12.1 ms.\n" in page
    assert "Resident memory, MiB: before 111, after 100 000 more events 112.\n" in page


def test_figures_of_the_short_form_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would stand there as if they said something; what is missing is told too."""
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- results: relay -->\n| old |\n<!-- end of results -->\n<!-- results: log -->\n<!-- end of results -->\n"
    )
    before = page.read_text()
    (tmp_path / "relay.json").write_text(json.dumps({**RESULT, "short": True}))
    monkeypatch.setattr(in_docs, "PAGE", page)
    monkeypatch.setattr(in_docs, "RESULTS", tmp_path)
    assert in_docs.main() == 0
    assert page.read_text() == before
    assert "short form" in capsys.readouterr().out


def test_every_subject_is_on_the_page() -> None:
    """Each with its command, with how its peers are set up, and with a place for its tables."""
    page = in_docs.PAGE.read_text(encoding="utf-8")
    sections = {part.partition("`")[0]: part for part in page.split("## `make bench SUBJECT=")[1:]}
    assert sorted(sections) == sorted(in_docs.places(page)) == every_subject.subjects()
    assert [name for name, text in sections.items() if "\nPeers: " not in text] == []


def test_imports_stand_beside_what_they_load() -> None:
    """The root loads nothing of others; a module's peer is what it wraps and nothing of ours; all entrances exist."""
    root = bench_imports.ROOT
    assert bench_imports.timed(f"import {root}")[1] == []
    loaded = bench_imports.timed(f"import {root}.logging_utils")[1]
    assert "structlog" in loaded
    assert [name for name in loaded if name.startswith((root, "common_core"))] == []
    assert {f"{root}.{name}".rstrip(".") for name in bench_imports.ENTRANCES} <= set(bench_imports.modules())
