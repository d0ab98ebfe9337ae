"""The how-to page on judging an implementation shows a row and a test that are there."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/how-to/judge-an-implementation.md").read_text(encoding="utf-8")


def test_the_pages_row_and_its_test_are_there() -> None:
    """The row that is shown stands in the contract word for word, and the test that is shown claims it."""
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (row,) = tomllib.loads(shown)["row"]
    rows = [
        each
        for path in (ROOT / "tests/contract/rows").glob("*.toml")
        for each in tomllib.loads(path.read_text())["row"]
    ]
    assert row in rows
    names: dict[str, Any] = {"pytest": pytest}
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    exec(compile(code, "judge-an-implementation.md", "exec"), names)  # noqa: S102  # the page of this repository
    (mark,) = names["test_a_claim_that_is_too_old_is_taken_over"].pytestmark
    assert (mark.name, mark.args) == ("contract", (row["id"],))
