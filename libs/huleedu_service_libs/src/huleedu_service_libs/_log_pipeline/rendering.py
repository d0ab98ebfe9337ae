"""Draws a line: one JSON object, or a line for people. Knows nothing of where it goes."""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo

from huleedu_service_libs._log_pipeline.cleaning import clean_text

__all__ = ["Renderer", "as_json", "for_people", "members", "text_of", "traceback_text"]

Renderer = Callable[[EventDict], str | bytes]
"""Takes the fields of a line without secrets, gives the line without its end."""

_CONSTANT = ("service_name", "service_version", "environment")


def text_of(value: object) -> str:
    """``repr``, whatever the object does."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not cost the line
        return f"<unprintable {type(value).__name__}>"


def as_json(line: EventDict) -> bytes:
    """One JSON object; what JSON cannot hold is rendered with ``repr``."""
    try:
        return orjson.dumps(line, default=text_of, option=orjson.OPT_UTC_Z)
    except (TypeError, ValueError, RecursionError):
        return _as_json_slowly({**line, "timestamp": timestamp_text(line)} if "timestamp" in line else line)


def members(fields: EventDict) -> bytes:
    """``,"name":value`` of each, to be put into an object behind others."""
    return b"," + as_json(fields)[1:-1] if fields else b""


def _as_json_slowly(line: EventDict) -> bytes:
    # For what orjson refuses: lone surrogates, integers beyond 64 bits, cycles, tuple keys. Each
    # field is tried by itself, so that one bad value costs only itself its structure.
    fields: dict[str, Any] = {}
    for name, value in line.items():
        try:
            json.dumps(value, default=text_of)
            fields[str(name)] = value
        except (TypeError, ValueError, RecursionError):
            fields[str(name)] = text_of(value)
    return json.dumps(fields, default=text_of).encode()


def timestamp_text(line: EventDict) -> str:
    """The line's time as ISO 8601."""
    return str(line["timestamp"].isoformat(timespec="microseconds")).replace("+00:00", "Z")


def for_people() -> Renderer:
    """Aligned lines, coloured on a terminal; what is the same on every line of the process is left out."""
    is_terminal = bool(sys.stdout) and sys.stdout.isatty()
    console = structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=structlog.dev.plain_traceback)

    def draw(line: EventDict) -> str:
        shown = {name: value for name, value in line.items() if name not in _CONSTANT}
        shown["timestamp"] = timestamp_text(line)
        shown["at"] = f"{shown.pop('filename')}:{shown.pop('lineno')}"
        del shown["func_name"]
        return console(None, str(shown.get("level", "")), shown)

    return draw


def traceback_text(exc_info: ExcInfo) -> str:
    """A traceback without secrets, as the interpreter prints it; never with local variables."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    return clean_text(text.getvalue().strip("\n"))
