"""The page of pitfalls names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "concepts" / "outbox-pitfalls.md"
NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=[name for _, name in NAMED])
def test_each_test_that_is_named_is_there(path: str, name: str) -> None:
    """A promise whose test was renamed or removed is no promise."""
    source = (ROOT / "libs/huleedu_service_libs/tests" / path).read_text(encoding="utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", source, flags=re.MULTILINE)


def test_each_pitfall_is_answered() -> None:
    """Twenty-eight rows, each with a test or, for the one that cannot apply, a sentence."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
    assert [int(row.split("|")[1]) for row in rows] == list(range(1, 29))
    assert [int(row.split("|")[1]) for row in rows if "::" not in row] == [26]
