"""JSON as bytes, quickly, and the same bytes for the same value."""

import json
from collections.abc import Callable
from typing import Any

import orjson

__all__ = ["dumps"]


def dumps(value: Any, *, default: Callable[[Any], Any] | None = None, any_keys: bool = False) -> bytes:
    """Encode JSON data as UTF-8, without spaces, keys in their own order, non-ASCII kept.

    Args:
        value: The data.
        default: Gives the JSON form of what has none; raises TypeError where there is none.
        any_keys: Take keys that are no strings, as their text.

    Raises:
        TypeError: A value that JSON has no form for, or text that UTF-8 cannot hold (a lone surrogate).
    """
    try:
        return orjson.dumps(value, default=default, option=orjson.OPT_NON_STR_KEYS if any_keys else None)
    except orjson.JSONEncodeError as error:
        # orjson refuses integers beyond 64 bits, which Python's own encoder writes.
        if "Integer exceeds" not in str(error):
            raise
        text = json.dumps(value, default=default, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode("utf-8")
