"""Every row of the contract has a test, every claim has a row; and the bookkeeping itself can be trusted."""

import ast
import re
from pathlib import Path

import pytest

from tests.contract.claims import CLAIMS, Claims
from tests.contract.rows import Row, rows

HERE = Path(__file__).parent
OF_OUR_SOURCE = {"test_defects.py", "returning_defects.py", "defects.py"}


def test_every_claim_is_a_row() -> None:
    """A test that claims a row names one that stands in `rows/`."""
    assert CLAIMS.unknown() == []


def test_every_row_has_a_test() -> None:
    """Each row is claimed by a test that was collected, or says why none can be."""
    assert CLAIMS.unclaimed() == []


def test_no_row_is_open_without_need() -> None:
    """A row that has a test is not called open."""
    assert CLAIMS.needlessly_open() == []


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"id": "5.3", "kind": "MUST"}, "the heading's number"),
        ({"id": "5.3-Owner", "kind": "MUST"}, "the heading's number"),
        ({"id": "5.3-owner", "kind": "SHOULD"}, "choose one of"),
    ],
)
def test_a_bad_row_is_refused(fields: dict[str, str], fault: str) -> None:
    """An id names a heading, a kind is one of five."""
    with pytest.raises(ValueError, match=fault):
        Row(text="x", **fields)


def test_a_row_belongs_to_its_heading() -> None:
    """The section is the number before the first point."""
    assert (Row(id="5.3-a", kind="MUST", text="x").section, Row(id="14-b", kind="STATE", text="x").section) == (5, 14)


def test_the_report_tells_what_broke() -> None:
    """One test of several that fails makes its row a broken one, and the line has the row's sentence."""
    row = next(one for one in rows().values() if not one.open)
    claims = Claims()
    claims.claim("m.py::test_a", [row.id])
    claims.claim("m.py::test_b[x]", [row.id])
    claims.note("m.py::test_a", "passed")
    claims.note("m.py::test_b[x]", "failed")
    claims.note("m.py::test_b[x]", "passed")
    found = list(claims.lines())
    assert any("1 of " in line and "0 hold" in line for line in found)
    assert any(f"BROKEN {row.id}" in line and row.text in line and "[test_b[x]]" in line for line in found)


def _imports(path: Path) -> set[str]:
    """Every module and name that a file imports, with dots."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_a_stranger_needs_nothing_of_ours() -> None:
    """No test of the contract imports a part of ours that another library need not have: private modules, and our helpers."""
    files = [path for path in HERE.rglob("*.py") if path.name not in OF_OUR_SOURCE]
    assert len(files) > 50
    ours = re.compile(r"huleedu_service_libs\.(testing\b|(.*\.)?_)|conftest|scripts\.")
    assert [(path.name, name) for path in files for name in _imports(path) if ours.match(name)] == []
