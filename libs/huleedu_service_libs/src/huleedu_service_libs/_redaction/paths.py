"""Takes tokens out of the path of a URL, where services put those of invitations, resets and downloads.

There is no name beside them, so their form tells: long, and drawn at random. Ids are shorter (a ULID has 26 characters,
a KSUID 27) or UUIDs; words, file names and slugs change rarely between capitals, small letters and digits.
"""

import re

from huleedu_service_libs._redaction.texts import redact_text
from huleedu_service_libs._redaction.urls import MASK

__all__ = ["redact_path"]

_SHORTEST = 32
"""Characters of what may be a token: 16 bytes in hexadecimal, 24 in base 64."""

# RFC 9562: a version from 1 to 8, and the variant; also without its hyphens.
_UUID_PATTERN = r"[0-9a-f]{8}(-?)[0-9a-f]{4}\1[1-8][0-9a-f]{3}\1[89ab][0-9a-f]{3}\1[0-9a-f]{12}"
_UUID = re.compile(rf"(?<![0-9A-Za-z]){_UUID_PATTERN}(?![0-9A-Za-z])", re.IGNORECASE)
# Nearly every path is of short segments and UUIDs: one look, and it is done.
_HARMLESS = re.compile(rf"(?:/(?:[^/]{{0,{_SHORTEST - 1}}}+(?![^/])|{_UUID_PATTERN}(?![^/])))*+", re.IGNORECASE)
_LONG_SEGMENT = re.compile(rf"[^/]{{{_SHORTEST},}}+")
_HEXADECIMAL = re.compile(rf"(?<![0-9A-Za-z])[0-9A-Fa-f]{{{_SHORTEST},}}+(?![0-9A-Za-z])")
# No word is so long, and base 32 has few digits.
_UNBROKEN = re.compile(rf"(?<![A-Za-z0-9])(?=[A-Za-z0-9]{{{_SHORTEST}}})(?:[A-Za-z]*+[0-9]){{3}}")
_RUN = re.compile(r"[A-Za-z0-9]++")
_WORD = re.compile(r"[A-Z]?[a-z]++|[A-Z]++|[0-9]++")
_CHARACTERS_PER_CHANGE = 5
"""From one word to the next within a run. In random base 62 it takes 2.3 characters, in base 36 2.5, in base 32 3.3, in
``CamelCase`` 5 or more."""


def redact_path(path: str) -> str:
    """``path`` with ``***`` for each segment that looks like a token, and for values after ``password=`` and the like."""
    if "=" in path or "@" in path:
        path = redact_text(path)
    if len(path) <= _SHORTEST or _HARMLESS.fullmatch(path):
        return path
    return _LONG_SEGMENT.sub(_mask_token, path)


def _mask_token(segment: re.Match[str]) -> str:
    rest = _UUID.sub("", segment[0])
    if len(rest) < _SHORTEST:
        return segment[0]
    changes = len(_WORD.findall(rest)) - len(_RUN.findall(rest))
    is_drawn = changes * _CHARACTERS_PER_CHANGE > len(rest)
    return MASK if is_drawn or _HEXADECIMAL.search(rest) or _UNBROKEN.search(rest) else redact_text(segment[0])
