"""Reads SQL far enough to name it and to hide its values. Linear in the length of the text; never raises.

Statement metrics, spans, the slow-query log and health checks use it. It is a scanner, no parser: it knows where
literals, comments and names begin and end, in PostgreSQL's rules.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2s

__all__ = ["Shape", "explainable", "fingerprint", "normalise", "shape_of", "summary"]

_NAMED_PART = 4_096  # characters in which a statement's table is looked for
_READ = 20_000  # characters of a statement that are normalised at all
_SHOWN = 2_000  # characters of a normalised statement
_SUMMARY = 255  # OpenTelemetry's bound for db.query.summary
_UNKNOWN = "unknown"

_TOKEN = re.compile(
    r"""
    (?P<gap>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<value>
        [eE]'(?:[^'\\]|''|\\.)*(?:'|\Z)|(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z)
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
_LIST = re.compile(r"\(\?(?:::[\w ]+(?:\[\])?)?(?:, ?\?(?:::[\w ]+(?:\[\])?)?)+\)")
_ROWS = re.compile(r"(\(\?, \.\.\.\))(?:, ?\(\?, \.\.\.\))+")

_VERBS = frozenset(
    [
        "alter",
        "analyze",
        "begin",
        "call",
        "comment",
        "commit",
        "copy",
        "create",
        "delete",
        "drop",
        "execute",
        "explain",
        "grant",
        "insert",
        "listen",
        "lock",
        "merge",
        "notify",
        "refresh",
        "release",
        "reset",
        "revoke",
        "rollback",
        "savepoint",
        "select",
        "set",
        "show",
        "truncate",
        "update",
        "vacuum",
        "values",
    ]
)
_MAIN = frozenset({"select", "insert", "update", "delete", "merge", "values"})
_BEFORE_TABLE = {
    "select": {"from"},
    "delete": {"from"},
    "insert": {"into"},
    "merge": {"into"},
    "update": {"update"},
    "truncate": {"truncate", "table"},
    "create": {"table"},
    "alter": {"table"},
    "drop": {"table"},
    "lock": {"lock", "table"},
}
_SKIPPED_BEFORE_NAME = frozenset({"only", "table", "if", "not", "exists", "lateral"})


@dataclass(frozen=True, slots=True)
class Shape:
    """What a statement does, to what: both are fit for labels once their number is bounded.

    Attributes:
        operation: Its verb in small letters, or ``other``.
        table: The first table that it names, without schema, or ``unknown``.
    """

    operation: str
    table: str


@lru_cache(maxsize=1024)
def shape_of(sql: str) -> Shape:
    """The shape of a statement; a common table expression counts by what follows it."""
    tokens = _words_and_marks(sql[:_NAMED_PART])
    verb = next((text for kind, text in tokens if kind == "word"), "").lower()
    if verb == "with":
        verb = _main_verb(tokens)
    if verb not in _VERBS:
        return Shape("other", _UNKNOWN)
    return Shape(verb, _table(tokens, verb))


def summary(shape: Shape) -> str:
    """The statement in few words, as OpenTelemetry's ``db.query.summary``."""
    table = "" if shape.table == _UNKNOWN else f" {shape.table}"
    return f"{shape.operation.upper()}{table}"[:_SUMMARY]


@lru_cache(maxsize=256)
def normalise(sql: str) -> str:
    """``sql`` with ``?`` in place of literals and parameters, without comments, lists of values shortened.

    Statements that differ in nothing else become equal. Cut after 2,000 characters.
    """
    parts: list[str] = []
    for found in _TOKEN.finditer(sql[:_READ]):
        kind = found.lastgroup
        if kind == "gap":
            if parts and parts[-1] != " ":
                parts.append(" ")
        else:
            parts.append("?" if found["value"] is not None else found[0])
    text = _ROWS.sub(r"\1, ...", _LIST.sub("(?, ...)", "".join(parts).strip()))
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def fingerprint(normalised: str) -> str:
    """A short name of a normalised statement, the same in every process."""
    return blake2s(normalised.encode("utf-8", "replace"), digest_size=6).hexdigest()


def explainable(shape: Shape) -> bool:
    """Whether PostgreSQL can plan such a statement."""
    return shape.operation in _MAIN


def _words_and_marks(sql: str) -> Iterator[tuple[str, str]]:
    for found in _TOKEN.finditer(sql):
        kind = "value" if found["value"] is not None else str(found.lastgroup)
        if kind != "gap":
            yield kind, found[0]


def _main_verb(tokens: Iterator[tuple[str, str]]) -> str:
    depth = 0
    for kind, text in tokens:
        if kind == "mark":
            depth += (text == "(") - (text == ")")
        elif kind == "word" and depth == 0 and text.lower() in _MAIN:
            return text.lower()
    return "other"


def _table(tokens: Iterator[tuple[str, str]], verb: str) -> str:
    before = _BEFORE_TABLE.get(verb, frozenset[str]())
    if verb not in before and not _skip_behind(tokens, before):
        return _UNKNOWN
    while True:
        name, ended_by = _name(tokens)
        # A subquery, or a function: the next FROM, if there is one.
        if name and ended_by != "(":
            return name
        if verb in {"insert", "create"} and name:
            return name
        if not _skip_behind(tokens, before):
            return _UNKNOWN


def _skip_behind(tokens: Iterator[tuple[str, str]], words: frozenset[str] | set[str]) -> bool:
    return any(kind == "word" and text.lower() in words for kind, text in tokens)


def _name(tokens: Iterator[tuple[str, str]]) -> tuple[str, str]:
    """The last part of a dotted name, and the token behind it."""
    name, dotted = "", True
    for kind, text in tokens:
        if kind == "mark" and text == ".":
            dotted = True
        elif kind in {"word", "quoted"} and dotted:
            if kind == "word" and not name and text.lower() in _SKIPPED_BEFORE_NAME:
                continue
            name, dotted = text.strip('"')[:63], False
        else:
            return name, text
    return name, ""
