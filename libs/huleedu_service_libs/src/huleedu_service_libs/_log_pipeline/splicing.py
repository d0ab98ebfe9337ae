"""The short way to a JSON line, for a line in which there is nothing to hide: what is known in advance is spliced in.

Only the caller's fields are encoded. What they became is looked through once, as bytes, which
costs a fraction of looking at each value. Whatever is unusual goes the long way (`line`); both give the same line.
"""

import string
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from huleedu_service_libs._log_pipeline.cleaning import TEXT, clean_event, clean_into, is_plain
from huleedu_service_libs._log_pipeline.rendering import members
from huleedu_service_libs._redaction import on_policy_change

__all__ = ["OURS", "SPECIAL", "Splicer"]

OURS = frozenset({"timestamp", "level", "event", "filename", "func_name", "lineno"})
"""Every line has these; a field of the caller's with such a name gets an underscore behind it."""

SPECIAL = frozenset({"exc_info", "stack_info", *OURS})
"""Fields that do not simply stand on the line."""

# A field of such a name replaces ours, so that what is spliced in would stand there twice.
_REPLACED = frozenset({"service_name", "service_version", "environment", "trace_id", "span_id", "exception"})
_REMEMBERED = 2_048  # names and events
_SHORT = 256  # characters of an event that is remembered

# Without the J, which is rare: with it there may be a web token.
_OF_WORDS = (string.ascii_letters.replace("J", "") + string.digits + '-._/+",').encode()
_HARMLESS = bytes(set(range(256)) - set(b":=@({}[]"))
# What is left of fields of which each is a number or a harmless text: a colon for each. Values with structure leave more.
_SHAPES = [b"{" + b":" * count + b"}" for count in range(33)]

_names: set[str] = set()  # that are plain and of the caller's own


class Splicer:
    """Draws what can be drawn the short way.

    Args:
        constant: What is the same on every line; of the names of `make_line`.
    """

    __slots__ = ("_constant",)

    def __init__(self, constant: Mapping[str, str]) -> None:
        clean: dict[str, Any] = {}
        clean_into(clean, dict(constant))
        self._constant = members(clean)

    def __call__(
        self, when: datetime, level: str, event: Any, ids: bytes, fields: dict[str, Any], ending: bytes
    ) -> bytes | None:
        """The line; ``None`` when it has to go the long way.

        Args:
            when: Stands first on it.
            level: Its name.
            event: What happened.
            ids: Of the trace, encoded.
            fields: Of the caller and its surroundings.
            ending: The call site, encoded, and what closes the line.
        """
        if not _names.issuperset(fields):
            _learn(fields)
            return None
        if not fields or type(event) is not str or len(event) > _SHORT:
            return None
        try:
            encoded = orjson.dumps(fields, option=orjson.OPT_UTC_Z)
            if not _is_harmless(encoded, _SHAPES[len(fields)]):
                return None
        except (TypeError, ValueError, RecursionError, IndexError):  # what orjson does not know, or too many
            return None
        time = orjson.dumps(when, option=orjson.OPT_UTC_Z)
        head = _head(self._constant, level, event)
        return b"".join((b'{"timestamp":', time, head, ids, b",", encoded[1:-1], ending))


def _is_harmless(encoded: bytes, shape: bytes) -> bool:
    """Whether no rule of `redact_text` could bite on a value: each needs one of ``:=@(``, ``eyJ``, or a scheme's word."""
    if len(encoded) > TEXT:
        return False
    left = encoded.translate(None, _OF_WORDS)
    if left == shape:
        return True
    if b"eyJ" in encoded or left.translate(None, _HARMLESS) != shape:
        return False
    lower = encoded.lower()
    return b"bearer" not in lower and b"basic" not in lower


@lru_cache(_REMEMBERED)
def _head(constant: bytes, level: str, event: str) -> bytes:
    """What stands between time and trace; texts of a program are few."""
    return members({"level": level, "event": clean_event(event)}) + constant


def _learn(names: Mapping[Any, Any]) -> None:
    for name in names:
        if is_plain(name) and name not in SPECIAL and name not in _REPLACED and len(_names) < _REMEMBERED:
            _names.add(name)


def _forget() -> None:
    _names.clear()
    _head.cache_clear()


on_policy_change(_forget)
