"""Takes secrets out of the fields of a line, at next to no cost where there are none.

Most fields of most lines have a name that was seen before and a value such as an
id, a number or one word, in which no rule of redaction could find anything. These
are told apart first; whatever is left goes the whole way (`_plain`, `_redaction`).
"""

import string
from datetime import date, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from huleedu_service_libs._plain import redacted_field
from huleedu_service_libs._redaction import is_plain_name, on_policy_change, redact_within

__all__ = ["TEXT", "clean_event", "clean_into", "clean_text", "is_plain"]

TEXT = 65_536
"""Characters of one text that are looked through and written."""

_REMEMBERED = 2_048  # names and events
_SHORT = 256  # characters of an event that is remembered
_KEPT = frozenset({str, int, float, bool, type(None), UUID, datetime, date})

_OF_WORDS = (string.ascii_letters + string.digits + "-._/+").encode()

_plain_names: set[str] = set()


def clean_into(line: dict[str, Any], fields: dict[str, Any]) -> None:
    """Put ``fields`` on ``line`` without secrets; what holds none stays the same object."""
    values = fields.values()
    # Sets and maps rather than a loop: this is most of what a line costs.
    if (
        _plain_names.issuperset(fields)
        and _KEPT.issuperset(map(type, values))
        and _is_harmless("".join([value for value in values if type(value) is str]))
    ):
        line.update(fields)
        return
    for name, value in fields.items():
        _put(line, name, value)


def _put(line: dict[str, Any], name: Any, value: Any) -> None:
    if not is_plain(name):
        line[_safe_name(name)] = redacted_field(str(name), value)
        return
    kind = type(value)
    is_harmless = kind in _KEPT and (kind is not str or _is_harmless(value))
    line[name] = value if is_harmless else redacted_field(name, value)


def _is_harmless(text: str) -> bool:
    """Whether no rule of `redact_text` could bite: each needs one of these. Looking for characters is what costs least."""
    if len(text) > TEXT:
        return False
    # What is left of ids, names and dotted words without their characters: nothing.
    if not text.encode("utf-8", "surrogatepass").translate(None, _OF_WORDS):
        return "eyJ" not in text or "." not in text
    if ":" in text or "=" in text or "@" in text or "(" in text or "eyJ" in text:
        return False
    lower = text.lower()
    return "bearer" not in lower and "basic" not in lower


def is_plain(name: Any) -> bool:
    """Whether ``name`` may stand on a line as it is and hides nothing of what stands under it."""
    return name in _plain_names or _learn(name)


def clean_event(event: Any) -> Any:
    """The event's text without secrets; texts of a program are few, so what became of one is remembered."""
    if type(event) is not str:
        return redacted_field("event", event)
    return _clean_short_event(event) if len(event) <= _SHORT else redacted_field("event", event)


@lru_cache(_REMEMBERED)
def _clean_short_event(event: str) -> Any:
    return redacted_field("event", event)


def clean_text(text: str) -> str:
    """A long text, such as a traceback, without secrets."""
    return redact_within(text, TEXT)


def _learn(name: Any) -> bool:
    if type(name) is not str or not name.isidentifier() or not is_plain_name(name):
        return False
    if len(_plain_names) < _REMEMBERED:
        _plain_names.add(name)
    return True


def _safe_name(name: Any) -> str:
    text = str(name)
    return text if text.isidentifier() else redact_within(text, TEXT)  # a word alone gives nothing away


def _forget() -> None:
    _plain_names.clear()
    _clean_short_event.cache_clear()


on_policy_change(_forget)
