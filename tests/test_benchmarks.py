"""The benchmarks: that all have a place in the whole, and what their results hold."""

import json
from pathlib import Path

import every_subject
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
    rows = {"ours": {"median": 8.0, "spread": 1.0}, "peer": {"median": 2.0}, "ceiling: bare": {"median": 16.0}}
    path = harness.write_result("x", {"unit": unit, "parts": {"p": rows}, "versions": {}})
    result = json.loads(path.read_text())
    assert set(result) >= every_subject.FIELDS
    assert (result["ours"], result["peers"]) == ({"p": {"ours": 8.0}}, {"p": {"peer": 2.0}})
    assert result["ceiling"] == {"p": {"ceiling: bare": 16.0}}
    assert result["ratios"]["p"]["peer"] == better
    assert [row[-1] for row in every_subject.rows(result)] == [better, better / 8 if better > 1 else 2.0]


def test_the_table_takes_results_without_parts() -> None:
    """Older shapes, one figure or one for each name, have their rows too."""
    result = {"unit": "events/s", "ours": 10, "peers": {"loop": 5}, "ceiling": 20}
    found = [(name, better) for _, _, _, name, _, better in every_subject.rows(result)]
    assert found == [("loop", 2.0), ("ceiling", 0.5)]


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
