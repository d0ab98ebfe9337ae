"""Reads SQL far enough to name it. Linear in the length of the text; never raises.

Statement metrics, spans and the slow-query log use it. What a statement is about, not what is in it: that is hidden
by `sql_values`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from huleedu_service_libs.database.sql_tokens import tokens

__all__ = ["Shape", "explainable", "is_single", "shape_of", "summary"]

_NAMED_PART = 4_096  # characters in which a statement's table is looked for
_SUMMARY = 255  # OpenTelemetry's bound for db.query.summary
_UNKNOWN = "unknown"

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
        "declare",
        "delete",
        "do",
        "drop",
        "execute",
        "explain",
        "fetch",
        "grant",
        "insert",
        "listen",
        "lock",
        "merge",
        "notify",
        "prepare",
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


def shape_of(sql: str) -> Shape:
    """The shape of a statement; a common table expression counts by what follows it."""
    # Statements of many rows are megabytes long: only the part that counts is remembered.
    return _shape_of(sql if len(sql) <= _NAMED_PART else sql[:_NAMED_PART])


@lru_cache(maxsize=1024)
def _shape_of(sql: str) -> Shape:
    telling = _words_and_marks(sql)
    verb = next((text for kind, text in telling if kind == "word"), "").lower()
    if verb == "with":
        verb = _main_verb(telling)
    if verb not in _VERBS:
        return Shape("other", _UNKNOWN)
    return Shape(verb, _table(telling, verb))


def summary(shape: Shape) -> str:
    """The statement in few words, as OpenTelemetry's ``db.query.summary``."""
    table = "" if shape.table == _UNKNOWN else f" {shape.table}"
    return f"{shape.operation.upper()}{table}"[:_SUMMARY]


def explainable(shape: Shape) -> bool:
    """Whether PostgreSQL can plan such a statement."""
    return shape.operation in _MAIN


def is_single(sql: str) -> bool:
    """Whether nothing follows a semicolon. Reads the whole text."""
    telling = _words_and_marks(sql)
    return not (any(text == ";" for _, text in telling) and any(text != ";" for _, text in telling))


def _words_and_marks(sql: str) -> Iterator[tuple[str, str]]:
    return ((kind, text) for kind, text, _ in tokens(sql) if kind != "gap")


def _main_verb(telling: Iterator[tuple[str, str]]) -> str:
    depth = 0
    for kind, text in telling:
        if kind == "mark":
            depth += (text == "(") - (text == ")")
        elif kind == "word" and depth == 0 and text.lower() in _MAIN:
            return text.lower()
    return "other"


def _table(telling: Iterator[tuple[str, str]], verb: str) -> str:
    before = _BEFORE_TABLE.get(verb, frozenset[str]())
    if verb not in before and not _skip_behind(telling, before):
        return _UNKNOWN
    while True:
        name, ended_by = _name(telling)
        # A subquery, or a function: the next FROM, if there is one.
        if name and ended_by != "(":
            return name
        if verb in {"insert", "create"} and name:
            return name
        if not _skip_behind(telling, before):
            return _UNKNOWN


def _skip_behind(telling: Iterator[tuple[str, str]], words: frozenset[str] | set[str]) -> bool:
    return any(kind == "word" and text.lower() in words for kind, text in telling)


def _name(telling: Iterator[tuple[str, str]]) -> tuple[str, str]:
    """The last part of a dotted name, and the token behind it."""
    name, dotted = "", True
    for kind, text in telling:
        if kind == "mark" and text == ".":
            dotted = True
        elif kind in {"word", "quoted"} and dotted:
            if kind == "word" and not name and text.lower() in _SKIPPED_BEFORE_NAME:
                continue
            name, dotted = text.strip('"')[:63], False
        else:
            return name, text
    return name, ""
