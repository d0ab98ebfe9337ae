"""Draws a line for people: time, level, event and logger in columns, then the fields, then the place in the code.

Structlog's console renderer does the colours and columns; here values get a form that people read, and nothing that
was logged can move the cursor, colour the terminal or pass itself off as a line of its own.
"""

import os
import sys
import unicodedata
from datetime import date, time
from typing import Any
from uuid import UUID

import structlog
from structlog.typing import EventDict

from huleedu_service_libs._log_pipeline.rendering import Renderer, text_of, timestamp_text

__all__ = ["for_people"]

_EVENT_WIDTH = 30
_LOGGER_WIDTH = 24
_VALUE = 2_000  # characters of one; nobody reads more on a terminal
_BELOW = ("stack", "exception")
_NOT_A_FIELD = frozenset(
    {"service_name", "service_version", "environment", "filename", "lineno", "func_name"}
    | {"timestamp", "level", "event", "logger_name", *_BELOW}
)
_INDENT = "    "
_DIM, _RESET = "\x1b[2m", "\x1b[0m"
_WIDE = ("W", "F")


def for_people() -> Renderer:
    """Aligned lines, coloured on a terminal; what is the same on every line of the process is left out."""
    colours = has_colours()
    console = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0)

    def draw(line: EventDict) -> str:
        fields = {name: value for name, value in line.items() if name not in _NOT_A_FIELD}
        shown = {_printable(str(name)): _value(value) for name, value in fields.items()}
        shown["timestamp"], shown["level"] = timestamp_text(line), line["level"]
        first, *more = _event(line["event"])
        shown["event"] = _padded(first, _EVENT_WIDTH)
        if "logger_name" in line:
            shown["logger_name"] = _padded(_printable(str(line["logger_name"])), _LOGGER_WIDTH)
        place = f"{line['filename']}:{line['lineno']}"
        place = f"{_DIM}{place}{_RESET}" if colours else place
        below = more + [_lines(str(line[name])) for name in _BELOW if name in line]
        return "\n".join([f"{console(None, '', shown)} {place}", *below])

    return draw


def has_colours() -> bool:
    """Whether standard output is a terminal that takes them, and nobody has said no (``NO_COLOR``)."""
    is_terminal = bool(sys.stdout) and sys.stdout.isatty()
    return is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _event(event: Any) -> list[str]:
    """Its lines; those behind the first are indented, so that none passes for a line of its own, and stand below the fields."""
    text = event if isinstance(event, str) else text_of(event)
    first, *more = text.splitlines() or [""]
    return [_printable(first), *(_INDENT + _printable(each) for each in more)]


def _padded(text: str, width: int) -> str:
    """By what it takes on a terminal: East Asian letters and most pictures take two places, accents none."""
    if text.isascii():
        return text.ljust(width)
    taken = sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in _WIDE else 1 for each in text
    )
    return text + " " * (width - taken)


class _Shown:
    """A text that is shown as it is."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _value(value: Any) -> Any:
    if isinstance(value, UUID | date | time):
        return _Shown(str(value) if isinstance(value, UUID) else value.isoformat())
    if isinstance(value, str):
        return value if value.isprintable() and len(value) <= _VALUE else _Shown(_cut(text_of(value)))
    return _Shown(_cut(_printable(text_of(value))))


def _cut(text: str) -> str:
    return text if len(text) <= _VALUE else f"{text[:_VALUE]}… ({len(text)} characters)"


def _printable(text: str) -> str:
    """With everything escaped that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def _lines(text: str) -> str:
    return "\n".join(_INDENT + _printable(each) for each in text.expandtabs(4).split("\n"))
