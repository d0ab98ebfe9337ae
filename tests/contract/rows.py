"""What the contract binds, row by row: read from `rows/section_NN.toml`, a file for each of its sections.

A row is a sentence that a service or its tests can observe. ``id`` begins with the number of its heading; ``open`` is the
reason why no test claims it. Knows nothing about tests; `claims` brings both together.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Row", "rows", "titles"]

KINDS = ("MUST", "WHITE-BOX", "FORMAT", "STATE", "SIGNATURE")
"""A service breaks otherwise; a test reads or patches it; bytes and names on a wire; what follows what; how it is called."""

_FOLDER = Path(__file__).with_name("rows")
_ID = re.compile(r"\d+(\.\d+)?-[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One sentence of the contract."""

    id: str
    kind: str
    text: str
    open: str = ""

    def __post_init__(self) -> None:
        """Refuse what the report could not show."""
        if not _ID.fullmatch(self.id):
            raise ValueError(f"row id {self.id!r} is not like '5.3-owner-token': the heading's number, then words")
        if self.kind not in KINDS:
            raise ValueError(f"row {self.id} is of kind {self.kind!r}; choose one of {', '.join(KINDS)}")

    @property
    def section(self) -> int:
        """The number before the first point: 5 of ``5.3-owner-token``."""
        return int(re.split(r"[.-]", self.id)[0])


@cache
def rows() -> dict[str, Row]:
    """All rows by their ids, in the order of the contract.

    Raises:
        ValueError: A row stands twice, in the file of another section, or is badly formed.
    """
    found: dict[str, Row] = {}
    for section, content in _files().items():
        for fields in content["row"]:
            row = Row(**fields)
            if row.id in found or row.section != section:
                raise ValueError(f"row {row.id} stands twice, or not in section_{row.section:02}.toml")
            found[row.id] = row
    return found


def titles() -> dict[int, str]:
    """The heading of each section that has rows."""
    return {section: content["title"] for section, content in _files().items()}


@cache
def _files() -> dict[int, dict[str, Any]]:
    files = sorted(_FOLDER.glob("section_*.toml"))
    return {int(one.stem.removeprefix("section_")): tomllib.loads(one.read_text(encoding="utf-8")) for one in files}
