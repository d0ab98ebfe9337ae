"""Which values are secret because a value beside them names them: ``("authorization", "x")``, ``{"field": ..., "value": ...}``.

``_plain`` asks for every sequence and mapping. Knows no nesting.
"""

from collections.abc import Mapping
from typing import Any

from huleedu_service_libs._redaction.names import is_sensitive_name
from huleedu_service_libs._redaction.urls import MASK

__all__ = ["values_named_secret", "without_secret_second"]

_NAMES_OF_NAMES = ("name", "key", "field", "header")
_PAIR = 2


def without_secret_second(items: list[Any]) -> list[Any]:
    """A header, for instance: what stands behind a name that tells a secret is hidden."""
    if len(items) != _PAIR or not isinstance(items[0], str | bytes):
        return items
    return [items[0], MASK] if is_sensitive_name(_name(items[0]), items[1]) else items


def values_named_secret(entries: Mapping[Any, Any]) -> tuple[str, ...]:
    """The keys of ``entries`` whose values another one names: ``{"field": "password", "value": "x"}``."""
    try:
        if "value" in entries:
            names = (entries[each] for each in _NAMES_OF_NAMES if each in entries)
            is_secret = any(_tells(name, entries["value"]) for name in names)
            return ("value",) if is_secret else ()
        if "loc" in entries and "input" in entries:  # an error of pydantic
            return ("input",) if any(_tells(name, entries["input"]) for name in entries["loc"]) else ()
    except Exception:  # noqa: BLE001  # a mapping's own code: what nobody can tell is hidden
        return ("value", "input")
    return ()


def _tells(name: Any, value: Any) -> bool:
    return isinstance(name, str | bytes) and is_sensitive_name(_name(name), value)


def _name(name: str | bytes) -> str:
    return name.decode("latin-1") if isinstance(name, bytes) else str(name)
