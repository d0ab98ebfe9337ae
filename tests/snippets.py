"""Snippets of the pages, and what those in Python define when they run in their order."""

import re
from pathlib import Path
from typing import Any

__all__ = ["DOCS", "names_of", "snippets_of"]

DOCS = Path(__file__).resolve().parent.parent / "docs"


def snippets_of(page: Path, language: str = "python") -> list[str]:
    """What stands in the page's blocks of that language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def names_of(page: Path, **given: Any) -> dict[str, Any]:
    """What the page's snippets define, beside what they take for given."""
    for snippet in snippets_of(page):
        exec(compile(snippet, str(page), "exec"), given)  # noqa: S102  # a page of this repository
    return given
