"""Rows of the contract as parameters of tests, so that a table stands in one place only.

A SIGNATURE row whose text is a line of `signatures` is judged as such; other tables give the id of each of their lines.
"""

from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.contract.rows import rows
from tests.contract.signatures import lines

__all__ = ["claimed", "signatures"]

_FORMS = ("async ", "class ", "def ")


def signatures(section: int) -> list[ParameterSet]:
    """The signatures that stand among a section's rows, each claiming its row."""
    found = [
        f"[{row.id}]\n{row.text}"
        for row in rows().values()
        if row.section == section and row.kind == "SIGNATURE" and row.text.startswith(_FORMS)
    ]
    return lines(f"{section:02}", "\n".join(found))


def claimed(row: str, *values: Any) -> ParameterSet:
    """One line of a table, which claims the row of that id."""
    return pytest.param(*values, id=row, marks=pytest.mark.contract(row))
