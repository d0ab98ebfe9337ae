"""Standard output as a pipe whose reader is slow or has stopped: the service goes on, and what is lost is counted."""

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from huleedu_service_libs._log_pipeline import sink
from huleedu_service_libs.logging_utils import configure_service_logging, swallowed_failures

from .lines import LOGGER, OURS


@contextmanager
def _piped(monkeypatch: pytest.MonkeyPatch, patience_s: float = 0.2) -> Iterator[int]:
    """Standard output is a pipe; gives the end to read from."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sink, "PATIENCE_S", patience_s)
    monkeypatch.setattr(sink, "_WRITER", sink._Writer())
    with os.fdopen(writer, "w") as stream:
        configure_service_logging("essays", "production")
        monkeypatch.setattr(sys, "stdout", stream)
        yield reader
    os.close(reader)


def _read_all(reader: int) -> list[dict[str, Any]]:
    os.set_blocking(reader, False)
    data = b""
    try:
        while part := os.read(reader, 65_536):
            data += part
    except BlockingIOError:
        pass
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="Linux only")
def test_a_reader_who_stops_reading_does_not_stop_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line waits, for a limited time; what does not fit is lost and counted, and told when there is room again."""
    with _piped(monkeypatch) as pipe:
        before, started = swallowed_failures(), time.monotonic()
        for number in range(2_000):
            LOGGER.info("line", number=number)
        lost = swallowed_failures() - before
        assert time.monotonic() - started < 10  # a blocking write would never end
        assert lost > 1_000
        kept = _read_all(pipe)
        assert [line["number"] for line in kept] == list(range(2_000 - lost))  # whole lines, in order
        LOGGER.info("again")
        again, told = _read_all(pipe)
        assert (again["event"], told["event"], told["lost"]) == ("again", "log_lines_lost", lost)
        assert told.items() >= OURS.items()


def test_a_slow_reader_gets_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines and short ones, larger together than the pipe: nothing is lost, nothing is torn."""
    with _piped(monkeypatch, patience_s=30.0) as pipe:
        read = bytearray()
        before = swallowed_failures()

        def slowly() -> None:
            while read.count(b"\n") < 200:
                read.extend(os.read(pipe, 10_000))
                time.sleep(0.001)

        thread = threading.Thread(target=slowly)
        thread.start()
        for number in range(200):
            LOGGER.info("line", number=number, text="word " * (number % 7) * 400)
        thread.join(timeout=30)
        assert [json.loads(line)["number"] for line in read.splitlines()] == list(range(200))
        assert swallowed_failures() == before


def test_a_reader_who_is_too_slow_does_not_set_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line would be taken a while later; together they wait a second, and then a tenth of the time."""
    now = waited = 0.0
    taken = False

    def ready(_descriptor: int, seconds: float) -> bool:
        nonlocal now, waited, taken
        wait = max(0.0, min(seconds, 0.05))
        now, waited, taken = now + wait, waited + wait, wait == 0.05
        return taken

    def write(_descriptor: int, data: bytes) -> int:
        nonlocal taken
        if not taken:
            raise BlockingIOError
        taken = False
        return len(data)

    monkeypatch.setattr(sink, "_monotonic", lambda: now)
    monkeypatch.setattr(sink, "_is_ready", ready)
    writer, lost = sink._Writer(), 0
    monkeypatch.setattr(writer, "_write", write)
    for _ in range(1_000):
        now += 0.01
        try:
            writer.write(1, b"line")
        except BlockingIOError:
            lost += 1
    assert waited <= 1.0 + 0.1 * now + 0.05
    assert 0 < lost < 1_000
