"""Figures that are noted now and counted when somebody looks."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
from prometheus_client import REGISTRY, generate_latest

from huleedu_service_libs._metrics import counter, gauge, histogram
from huleedu_service_libs._tallies import Tally, before_read, tally


@pytest.fixture(name="name")
def _name(unique_name: str) -> str:
    return unique_name.replace("-", "_")


def test_what_was_noted_is_there_when_it_is_read(name: str) -> None:
    """Every way to read a registry shows all notes, in their buckets, once; the counter beside them goes along."""
    series = histogram(f"{name}_seconds", "Seconds", ("part",), (0.1, 1.0))
    events = counter(f"{name}_events_total", "Events")
    noted = tally(series, "one", counted=events)
    assert tally(series, "one") is noted
    for value in (0.05, 0.1, 0.5, 7.0):
        noted.note(value)
    assert REGISTRY.get_sample_value(f"{name}_events_total") == 4
    noted.note(0.05)
    text = generate_latest(REGISTRY).decode()
    assert f'{name}_seconds_bucket{{le="0.1",part="one"}} 3.0' in text
    assert f'{name}_seconds_bucket{{le="1.0",part="one"}} 4.0' in text
    assert f'{name}_seconds_count{{part="one"}} 5.0' in text
    assert REGISTRY.get_sample_value(f"{name}_seconds_sum", {"part": "one"}) == pytest.approx(7.7)
    only_it = REGISTRY.restricted_registry([f"{name}_events_total"])
    noted.note(0.05)
    assert f"{name}_events_total 6.0" in generate_latest(only_it).decode()


def test_notes_are_bounded(name: str) -> None:
    """Nobody reads for long: all but the last few hundred are counted, in the order of notes."""
    series = histogram(f"{name}_seconds", "Seconds", (), (1.0,))
    noted = tally(series)
    for _ in range(10_000):
        noted.note(0.5)
    assert len(noted._noted) < 256
    assert REGISTRY.get_sample_value(f"{name}_seconds_count") == 10_000


def test_threads_lose_no_note(name: str) -> None:
    """Four threads note while a fifth reads: every note is counted once."""
    noted = tally(histogram(f"{name}_seconds", "Seconds", (), (1.0,)))

    def note() -> None:
        for _ in range(5_000):
            noted.note(0.5)

    threads = [Thread(target=note) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        REGISTRY.get_sample_value(f"{name}_seconds_count")
    assert REGISTRY.get_sample_value(f"{name}_seconds_count") == 20_000


def test_a_note_made_while_notes_are_counted_waits_for_nobody() -> None:
    """The garbage collector may give a connection back in the middle of the counting, on the same thread."""
    counts: list[int] = []

    def count(taken: list[float]) -> None:
        counts.append(len(taken))
        if len(counts) == 1:
            for _ in range(300):
                noted.note(1.0)

    noted = Tally(count)
    noted.note(1.0)
    noted.settle()
    noted.settle()
    assert counts == [1, 300]


def test_a_gauge_may_be_set_when_it_is_read(name: str) -> None:
    """What is put before the reading is done each time; a later one under the same key takes its place."""
    shown = gauge(f"{name}_now", "Now")
    before_read(shown, "key", lambda: shown.set(1))
    assert REGISTRY.get_sample_value(f"{name}_now") == 1
    before_read(shown, "key", shown.inc)
    assert REGISTRY.get_sample_value(f"{name}_now") == 2


_OF_ANOTHER_PROCESS = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from sqlalchemy import QueuePool, create_engine, text
from huleedu_service_libs.database import setup_database_monitoring
engine = create_engine("sqlite://", poolclass=QueuePool)
setup_database_monitoring(engine, "svc")
with engine.connect() as connection:
    connection.execute(text("SELECT 1"))
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    print(generate_latest(registry).decode())
"""


def test_in_multiprocess_mode_every_figure_is_written_at_once(tmp_path: Path) -> None:
    """Another process reads the files at any time, so nothing is put off there: counters, histograms and gauges."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    read = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", _OF_ANOTHER_PROCESS],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "svc_database_connections_acquired_total 1.0" in read
    assert "svc_database_connection_wait_seconds_count" in read
    assert (
        'svc_database_statement_duration_seconds_count{operation="select",result="success",table="unknown"} 1.0' in read
    )
    active = next(line for line in read.splitlines() if line.startswith("svc_database_connections_active{"))
    assert active.endswith(" 1.0")
