"""Draws a line as one JSON object, and what stands in a line as text. Knows nothing of where it goes."""

import io
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo

from huleedu_service_libs._log_pipeline.cleaning import TEXT, clean_text

__all__ = ["Renderer", "as_json", "members", "text_of", "timestamp_text", "traceback_text"]

Renderer = Callable[[EventDict], str | bytes]
"""Takes the fields of a line without secrets, gives the line without its end."""

_BEGINNING = TEXT // 4  # of a traceback; the end says what happened


def text_of(value: object) -> str:
    """``repr``, whatever the object does; of a tuple, such as the arguments of a call, what each of its members has."""
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not cost the line
        if type(value) is tuple:
            return f"({', '.join(map(text_of, value))}{',' * (len(value) == 1)})"
        return f"<unprintable {type(value).__name__}>"


def as_json(line: EventDict) -> bytes:
    """One JSON object; what JSON cannot hold is rendered with ``repr``."""
    try:
        return orjson.dumps(line, default=text_of, option=orjson.OPT_UTC_Z)
    except (TypeError, ValueError, RecursionError):
        return _as_json_slowly(line)


def members(fields: EventDict) -> bytes:
    """``,"name":value`` of each, to be put into an object behind others."""
    return b"," + as_json(fields)[1:-1] if fields else b""


def _as_json_slowly(line: EventDict) -> bytes:
    # For what orjson refuses: lone surrogates, integers beyond 64 bits, cycles, tuple keys. Each
    # field is tried by itself, so that one bad value costs only itself its structure.
    fields = [_one_as_json(_encodable(str(name))) + b":" + _one_as_json(value) for name, value in line.items()]
    return b"{" + b",".join(fields) + b"}"


def _one_as_json(value: Any) -> bytes:
    if type(value) is str:
        value = _encodable(value)
    with suppress(TypeError, ValueError, RecursionError):
        return orjson.dumps(value, default=text_of, option=orjson.OPT_UTC_Z)
    with suppress(TypeError, ValueError, RecursionError):
        return json.dumps(value, default=text_of, allow_nan=False).encode()
    return orjson.dumps(_encodable(text_of(value)))


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def timestamp_text(line: EventDict) -> str:
    """The line's time as ISO 8601."""
    return str(line["timestamp"].isoformat(timespec="microseconds")).replace("+00:00", "Z")


def traceback_text(exc_info: ExcInfo) -> str:
    """A traceback without secrets, as the interpreter prints it; never with local variables.

    Of one that is too long the middle is left out: its last line says what happened.
    """
    text = io.StringIO()
    try:
        structlog.dev.plain_traceback(text, exc_info)
    except Exception as error:  # noqa: BLE001  # an exception that cannot be drawn must not cost the line
        return clean_text(f"{text_of(exc_info[1])} (no traceback: {text_of(error)})")
    whole = text.getvalue().strip("\n")
    return clean_text(whole) if len(whole) <= TEXT else _shortened(whole)


def _shortened(whole: str) -> str:
    begin = whole.rfind("\n  File ", 0, _BEGINNING)
    end = whole.find("\n  File ", len(whole) + _BEGINNING - TEXT)
    if begin < 0 or end < 0:  # it is the message that is long
        return clean_text(whole)
    left_out = f"\n  … ({end - begin} characters left out)"
    return clean_text(whole[:begin]) + left_out + clean_text(whole[end:])
