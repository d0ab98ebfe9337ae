"""Takes SQL apart into gaps, values, names and marks, in PostgreSQL's rules. Linear in the length of the text.

`sql` names statements by it, `sql_values` hides their values. It is a scanner, no parser.
"""

import re
from collections.abc import Iterator

__all__ = ["tokens"]

_TOKEN = re.compile(
    r"""
    (?P<gap>\s+|--[^\n]*|/\*)
    |(?P<value>
        [eE]'(?:[^'\\]|''|\\.?)*(?:'|\Z)|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z)
        |\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
        |\$\d+|%\(\w+\)s|%s|(?<!:):[^\W\d]\w*|\?
        |(?:\d[\d_]*(?:\.[\d_]*)?|\.\d[\d_]*)(?:[eE][+-]?\d+)?\w*
    )
    |(?P<quoted>"(?:[^"]|"")*(?:"|\Z))
    |(?P<word>[^\W\d][\w$]*)
    |(?P<mark>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARK = re.compile(r"/\*|\*/")


def tokens(sql: str) -> Iterator[tuple[str, str, int]]:
    """Kind (``gap``, ``value``, ``quoted``, ``word`` or ``mark``), text and place of each token; of a comment its opening."""
    place = 0
    while found := _TOKEN.match(sql, place):
        kind = "value" if found["value"] is not None else str(found.lastgroup)
        yield kind, found[0], place
        place = _behind_comment(sql, found.end()) if found[0] == "/*" else found.end()


def _behind_comment(sql: str, place: int) -> int:
    """Comments nest: the first ``*/`` may end an inner one only."""
    depth = 1
    for mark in _COMMENT_MARK.finditer(sql, place):
        depth += 1 if mark[0] == "/*" else -1
        if not depth:
            return mark.end()
    return len(sql)
