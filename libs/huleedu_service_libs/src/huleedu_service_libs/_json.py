"""JSON as bytes, quickly, and the same bytes for the same value."""

import json
from typing import Any

import orjson

__all__ = ["dumps"]


def dumps(value: Any) -> bytes:
    """Encode plain JSON data as UTF-8, without spaces, keys in their own order, non-ASCII kept.

    Raises:
        TypeError: A value that JSON has no form for, or text that UTF-8 cannot hold (a lone surrogate).
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        # orjson refuses integers beyond 64 bits, which Python's own encoder writes.
        if "Integer exceeds" not in str(error):
            raise
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")
