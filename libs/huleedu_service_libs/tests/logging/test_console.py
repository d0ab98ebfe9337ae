"""Lines for people: columns, colours, long values, and texts that would pass for something else."""

import sys
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import pytest

from huleedu_service_libs._log_pipeline import console
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger

from .lines import LOGGER


def _console(capsys: pytest.CaptureFixture[str], call: Callable[[], None]) -> list[str]:
    configure_service_logging("essays", "development", "DEBUG")
    call()
    return capsys.readouterr().out.splitlines()


def test_what_is_logged_cannot_pass_for_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """No colour, no cursor, no line of its own; a text of several lines is indented."""
    text = "first\n2026-01-01T00:00:00Z [info     ] forged\x1b[2J\rover"
    shown = _console(capsys, lambda: LOGGER.info(text, **{"a\nb": text, "nested": [text]}, exc_info=ValueError(text)))
    assert "\x1b" not in "".join(shown)
    assert shown[0].startswith("20")
    assert all(line.startswith("    ") for line in shown[1:])
    assert r"a\nb=" in "".join(shown)


def test_columns_are_aligned_and_the_place_stands_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields begin at the same column, with wide letters in the event too, which take two places each."""

    def call() -> None:
        LOGGER.info("stored", essay_id=UUID(int=1))
        LOGGER.warning("日本語", essay_id=UUID(int=1))
        create_service_logger("x").critical("e\u0301", essay_id=UUID(int=1))

    plain, wide, accent = _console(capsys, call)
    begin = plain.index("essay_id=")
    assert plain[begin:].startswith("essay_id=00000000-0000-0000-0000-000000000001 test_console.py:")
    assert wide.index("essay_id=") == begin - 3
    assert accent.index("essay_id=") == begin + 1


def test_further_lines_of_a_text_stand_below_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns stay columns: the first line has them all, the others come behind it."""
    first, second, third = _console(capsys, lambda: LOGGER.info("first\nsecond\nthird", words=3))
    assert "first   " in first
    assert " words=3 test_console.py:" in first
    assert (second, third) == ("    second", "    third")


def test_a_value_too_long_to_read_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal stays usable; how long it was is told."""
    (line,) = _console(capsys, lambda: LOGGER.info("x", text="word " * 10_000, on=datetime(2026, 5, 4, 12, 0)))  # noqa: DTZ001
    assert len(line) < 2_500
    assert "(50002 characters)" in line
    assert "on=2026-05-04T12:00:00 " in line


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal that takes them, the variables decide."""

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert console.has_colours()
    monkeypatch.setenv(name, value)
    assert not console.has_colours()
