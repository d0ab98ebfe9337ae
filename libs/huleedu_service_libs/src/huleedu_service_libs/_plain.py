"""Turns whatever stands in an error's details or in a log field into plain, redacted data.

The encoder behind error answers, span attributes and logs. It accepts anything
(objects that raise when looked at, cycles, huge structures) and never fails;
what it returns always has a JSON form.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import islice
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from huleedu_service_libs._redaction import MASK, is_sensitive_name, redact_text, redact_within
from huleedu_service_libs._redaction.neighbours import values_named_secret, without_secret_second

__all__ = ["flat_entries", "plain", "plain_text", "redacted_field", "secrets_within"]

_DEPTH = 8
_NODES = 2_000  # of one value, in all
_TEXT = 8_192  # characters
_TEXTS = 65_536  # characters of all texts of one value
_LOG_TEXT = 65_536
_SAFE_INTEGER = 2**63


def plain(value: Any) -> Any:
    """``value`` as dictionaries, lists, texts, numbers, truth values and ``None``, without secrets.

    Texts keep at most 8192 characters, 65536 all of them together, nesting 8 levels, the whole 2000
    nodes; what is beyond is replaced by a remark. Unknown objects become their ``str``.
    """
    return _Walk().plain(value, 0)


def _plain_entry(name: Any, value: Any) -> tuple[str, Any]:
    """A field's name and value, plain; ``***`` under a name that tells a secret."""
    key = plain_text(name)
    return key, MASK if is_sensitive_name(str(key), value) else plain(value)


def _flat_entry(name: Any, value: Any) -> tuple[str, str | bool | int | float]:
    """The same for places that take no structures, such as span attributes: scalars as they are, others as text."""
    key, shown = _plain_entry(name, value)
    if isinstance(shown, bool | int | float):
        return key, shown
    is_structure = isinstance(shown, dict | list) or shown is None
    return key, str(shown) if is_structure or shown == MASK or issubclass(type(value), str) else plain_text(value)


def flat_entries(entries: Mapping[str, Any]) -> dict[str, str | bool | int | float]:
    """`_flat_entry` of each, 65536 characters in all; where one names another (``field``, ``value``), both count."""
    masked = values_named_secret(entries)
    result: dict[str, str | bool | int | float] = {}
    left = _TEXTS
    for name, value in entries.items():
        if left <= 0:
            result["…"] = f"{len(entries)} entries in all"
            break
        key, shown = _flat_entry(name, MASK if name in masked else value)
        result[key] = shown
        left -= len(key) + len(str(shown))
    return result


def plain_text(value: Any, limit: int = _TEXT) -> str:
    """``str(value)`` without secrets and without what UTF-8 cannot hold, cut behind ``limit`` characters."""
    return redact_within(value if type(value) is str else _str(value), limit)


def secrets_within(value: Any) -> Iterator[str]:
    """What stands under names that tell a secret, anywhere in ``value``, as text.

    For texts of others that may repeat it. Of a structure too large to look through it is the empty text,
    which stands in every text.
    """
    waiting, left = [(value, False)], _NODES
    while waiting:
        left -= 1
        if left < 0:
            yield ""
            return
        each, is_secret = waiting.pop()
        each = _by_name(each)
        if isinstance(each, Mapping):
            waiting += [(item, is_secret or is_sensitive_name(str(name), item)) for name, item in each.items()]
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += [(item, is_secret) for item in each]
        elif is_secret and each is not None and each != "":
            yield _str(each)


def redacted_field(name: str, value: Any) -> Any:
    """A log field without secrets; what holds none stays the same object, for the renderer to show."""
    if is_sensitive_name(name, value):
        return MASK
    if issubclass(type(value), Enum):
        value = value.value
    kind = type(value)  # not isinstance, which asks the object itself
    if issubclass(kind, str):
        return redact_within(value, _LOG_TEXT) if len(value) > _LOG_TEXT else redact_text(value)
    if value is None or issubclass(kind, int | float | UUID | date | time):
        return value
    # Never by its ``repr`` alone: that may leave out a field which the renderer would show.
    if issubclass(kind, Mapping | list | tuple | set | frozenset) or is_dataclass(kind):
        return _Walk(keeps_objects=True).plain(value, 0)
    return _object_without_secrets(value)


def _object_without_secrets(value: Any) -> Any:
    if issubclass(type(value), Decimal | PurePath | timedelta):  # their ``repr`` is for programmers
        return plain_text(value)
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__; the renderer has its own way with it
        return value
    safe = redact_within(shown, _LOG_TEXT) if len(shown) > _LOG_TEXT else redact_text(shown)
    return value if safe == shown else safe


def _str(value: Any) -> str:
    try:
        return str.__str__(str(value))
    except Exception:  # noqa: BLE001  # the object's own code
        return f"<unprintable {type(value).__name__}>"


class _Walk:
    """One value on its way to plain data; counts what it has seen."""

    def __init__(self, *, keeps_objects: bool = False) -> None:
        self._left = _NODES
        self._characters = _TEXTS
        self._keeps_objects = keeps_objects

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        try:
            return self._known(value, depth)
        except Exception:  # noqa: BLE001  # whatever a hostile object does when it is looked at
            return f"<unprintable {type(value).__name__}>"

    def _text(self, value: Any) -> str:
        text = plain_text(value, max(0, min(_TEXT, self._characters)))
        self._characters -= len(text)
        return text

    def _known(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.plain(value.value, depth)
        if isinstance(value, str):
            return self._text(value)
        if value is None or isinstance(value, bool | int | float):
            return _number(value)
        value = _by_name(value)
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        is_sequence = isinstance(value, list | tuple | set | frozenset)
        return self._sequence(value, depth) if is_sequence else self._object(value)

    def _object(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return self._text(bytes(value[:_TEXT]).decode("utf-8", "backslashreplace"))
        if isinstance(value, datetime | date | time):
            return value if self._keeps_objects else value.isoformat()
        if self._keeps_objects:
            return _object_without_secrets(value)
        return self._text(value)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        if depth >= _DEPTH:
            return f"<{len(value)} entries, nested too deeply>"
        result: dict[str, Any] = {}
        masked = values_named_secret(value)
        for key, item in list(islice(value.items(), max(0, self._left) + 1)):  # a list: it may change meanwhile
            if self._left <= 0:
                result["…"] = f"{len(value)} entries in all"
                break
            name = self._text(key.value if isinstance(key, Enum) else key)
            is_secret = name in masked or is_sensitive_name(name, item)
            result[name] = MASK if is_secret else self.plain(item, depth + 1)
        return result

    def _sequence(self, value: Iterable[Any], depth: int) -> Any:
        items = list(value)
        if depth >= _DEPTH:
            return f"<{len(items)} items, nested too deeply>"
        if isinstance(value, tuple) or (items and isinstance(items[0], bytes)):
            items = without_secret_second(items)
        result = []
        for item in items:
            if self._left <= 0:
                result.append(f"… {len(items)} items in all")
                break
            result.append(self.plain(item, depth + 1))
        return result


def _by_name(value: Any) -> Any:
    """A model, a data class or a named tuple as a mapping, whose names tell what is secret; others as they are."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name, None) for each in fields(value) if each.repr}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=False))
    return value


def _number(value: Any) -> Any:
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if value is None or isinstance(value, bool):
        return value
    number = int(value)
    # Beyond 64 bits JSON readers disagree, and beyond 4300 digits Python refuses the decimal form.
    return number if -_SAFE_INTEGER <= number < _SAFE_INTEGER else f"<integer of {number.bit_length()} bits>"
