"""The how-to page on judging an implementation shows a row and a test that are there, and a command that runs."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/how-to/judge-an-implementation.md").read_text(encoding="utf-8")


def test_the_pages_row_and_its_test_are_there() -> None:
    """The row that is shown stands in the contract word for word, and so does the test that is shown, which claims it."""
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
    assert any(code in path.read_text(encoding="utf-8") for path in (ROOT / "tests/contract").glob("test_section_*.py"))
    exec(compile(code, "judge-an-implementation.md", "exec"), names)  # noqa: S102  # the page of this repository
    (mark,) = names["test_a_claim_that_is_too_old_is_taken_over"].pytestmark
    assert (mark.name, mark.args) == ("contract", (row["id"],))


def test_the_command_of_the_page_runs() -> None:
    """As it stands, on one section, with neither our fixtures nor the settings of our other tests."""
    (command,) = re.findall(r"^python -m (pytest tests/contract .+)$", PAGE, re.MULTILINE)
    words = shlex.split(command.replace("-p your_fixtures", "-p no:huleedu_devstack"))
    words[words.index("tests/contract")] = "tests/contract/test_section_16_common_core.py"
    run = [sys.executable, "-m", *words, "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"section 16 Contracts package: (\d+) of \d+ rows covered, \1 hold", done.stdout), done.stdout
