"""Turns whatever stands in an error's details or in a log field into plain, redacted data.

The encoder behind error answers, span attributes and logs. It accepts anything
(objects that raise when looked at, cycles, huge structures) and never fails;
what it returns always has a JSON form.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from huleedu_service_libs._redaction import MASK, is_sensitive_name, redact_text

__all__ = ["flat_entry", "plain", "plain_entry", "plain_text", "redacted_field"]

_DEPTH = 8
_NODES = 2_000  # of one value, in all
_TEXT = 8_192  # characters
_SAFE_INTEGER = 2**63


def plain(value: Any) -> Any:
    """``value`` as dictionaries, lists, texts, numbers, truth values and ``None``, without secrets.

    Texts keep at most 8192 characters, nesting 8 levels, the whole 2000 nodes; what is beyond is
    replaced by a remark. Unknown objects become their ``str``.
    """
    return _Walk().plain(value, 0)


def plain_entry(name: Any, value: Any) -> tuple[str, Any]:
    """A field's name and value, plain; ``***`` under a name that tells a secret."""
    key = plain_text(name)
    return key, MASK if is_sensitive_name(str(key), value) else plain(value)


def flat_entry(name: Any, value: Any) -> tuple[str, str | bool | int | float]:
    """The same for places that take no structures, such as span attributes: scalars as they are, others as text."""
    key, shown = plain_entry(name, value)
    if isinstance(shown, bool | int | float):
        return key, shown
    is_structure = isinstance(shown, dict | list) or shown is None
    return key, str(shown) if is_structure or shown == MASK or issubclass(type(value), str) else plain_text(value)


def plain_text(value: Any) -> str:
    """``str(value)`` without secrets and without what UTF-8 cannot hold."""
    text = value if type(value) is str else _str(value)
    if len(text) > _TEXT:
        text = f"{text[:_TEXT]}… ({len(text)} characters)"
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        text = text.encode("utf-8", "backslashreplace").decode()
    return redact_text(text)


def redacted_field(name: str, value: Any) -> Any:
    """A log field without secrets; what holds none stays the same object, for the renderer to show."""
    if is_sensitive_name(name, value):
        return MASK
    kind = type(value)  # not isinstance, which asks the object itself
    if issubclass(kind, str):
        return redact_text(value)
    if value is None or issubclass(kind, int | float | UUID | date):
        return value
    if issubclass(kind, Mapping | list | tuple | set | frozenset):
        return _Walk(keeps_objects=True).plain(value, 0)
    return _object_without_secrets(value)


def _object_without_secrets(value: Any) -> Any:
    try:
        shown = repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__; the renderer has its own way with it
        return value
    safe = redact_text(shown)
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
        self._keeps_objects = keeps_objects

    def plain(self, value: Any, depth: int) -> Any:
        self._left -= 1
        try:
            return self._known(value, depth)
        except Exception:  # noqa: BLE001  # whatever a hostile object does when it is looked at
            return f"<unprintable {type(value).__name__}>"

    def _known(self, value: Any, depth: int) -> Any:
        if isinstance(value, Enum):
            return self.plain(value.value, depth)
        if isinstance(value, str):
            return plain_text(value)
        if value is None or isinstance(value, bool | int | float):
            return _number(value)
        if isinstance(value, BaseModel):
            value = value.model_dump()
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        is_sequence = isinstance(value, list | tuple | set | frozenset)
        return self._sequence(value, depth) if is_sequence else self._object(value)

    def _object(self, value: Any) -> Any:
        if isinstance(value, bytes | bytearray | memoryview):
            return plain_text(bytes(value[:_TEXT]).decode("utf-8", "backslashreplace"))
        if self._keeps_objects:
            return _object_without_secrets(value)
        if isinstance(value, datetime | date | time):
            return value.isoformat()
        return plain_text(value)

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> Any:
        if depth >= _DEPTH:
            return f"<{len(value)} entries, nested too deeply>"
        result: dict[str, Any] = {}
        for key, item in list(value.items()):
            if self._left <= 0:
                result["…"] = f"{len(value)} entries in all"
                break
            name = plain_text(key.value if isinstance(key, Enum) else key)
            result[name] = MASK if is_sensitive_name(name, item) else self.plain(item, depth + 1)
        return result

    def _sequence(self, value: Iterable[Any], depth: int) -> Any:
        items = list(value)
        if depth >= _DEPTH:
            return f"<{len(items)} items, nested too deeply>"
        result = []
        for item in items:
            if self._left <= 0:
                result.append(f"… {len(items)} items in all")
                break
            result.append(self.plain(item, depth + 1))
        return result


def _number(value: Any) -> Any:
    if isinstance(value, float):
        number = float(value)
        return number if math.isfinite(number) else str(number)
    if value is None or isinstance(value, bool):
        return value
    number = int(value)
    # Beyond 64 bits JSON readers disagree, and beyond 4300 digits Python refuses the decimal form.
    return number if -_SAFE_INTEGER <= number < _SAFE_INTEGER else f"<integer of {number.bit_length()} bits>"
