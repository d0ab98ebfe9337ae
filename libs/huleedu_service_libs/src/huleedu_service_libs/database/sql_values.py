"""Hides the values of SQL: of statements for log, spans and health, and of the plans of statements.

Knows nothing of what a statement does; that is `sql`.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2s

from huleedu_service_libs.database.sql_tokens import tokens

__all__ = ["fingerprint", "normalise", "plan_without_values"]

_READ = 20_000  # characters of a statement that are normalised at all
_SHOWN = 2_000  # characters of a normalised statement

# A value in a list, with sign and cast: "?", "-?", "?::NUMERIC(?, ?)[]", "NULL".
_ITEM = r"(?:[-+]?\?|null|default|true|false)(?:::[\w. ]++(?:\(\?(?:, ?\?)*+\)[\w ]*+)?+(?:\[\])*+)?+"
_LIST = re.compile(rf"([(\[]){_ITEM}(?:, ?{_ITEM})+([)\]])", re.IGNORECASE)
_ROWS = re.compile(r"(\((?:[^()]++|\([^()]*+\))*+\))(?:, ?\1)+")  # rows that look alike
_SET = re.compile(r"\A(set\b[^=]*?(?:=|\bto\b)).*", re.IGNORECASE | re.DOTALL)
_ESTIMATE = re.compile(r"\(cost=[\d.]+ rows=\d+ width=\d+\)")


def normalise(sql: str) -> str:
    """``sql`` with ``?`` in place of literals and parameters, without comments, lists of values shortened.

    Statements that differ in nothing else become equal. Cut after 2,000 characters.
    """
    return _normalise(sql[:_READ])  # what is remembered is bounded, too


@lru_cache(maxsize=256)
def _normalise(sql: str) -> str:
    parts: list[str] = []
    for kind, text, _ in tokens(sql):
        if kind != "gap":
            parts.append("?" if kind == "value" else text)
        elif parts and parts[-1] != " ":
            parts.append(" ")
    text = _ROWS.sub(r"\1, ...", _LIST.sub(r"\1?, ...\2", "".join(parts).strip()))
    text = _SET.sub(r"\1 ?", text)  # a setting's value may be a plain word
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def fingerprint(normalised: str) -> str:
    """A short name of a normalised statement, the same in every process."""
    return blake2s(normalised.encode("utf-8", "replace"), digest_size=6).hexdigest()


def plan_without_values(lines: Iterable[str]) -> list[str]:
    """The lines of a plan with ``?`` in place of the statement's values; the planner's estimates and the indentation stay.

    Read as one text, for a literal may span lines.
    """
    plan = "\n".join(lines)
    parts: list[str] = []
    kept = 0  # up to where an estimate stands as it is
    for kind, text, place in tokens(plan):
        estimate = _ESTIMATE.match(plan, place) if text == "(" else None
        if estimate:
            kept = estimate.end()
        parts.append("?" if kind == "value" and place >= kept else text)
    return "".join(parts).splitlines()
