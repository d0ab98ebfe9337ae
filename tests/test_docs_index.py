"""The pages of docs/ can be found, and a decision's number names one decision."""

import re
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent / "docs"
INDEX = DOCS / "index.md"


def test_each_decision_has_a_number_of_its_own() -> None:
    """No number is used twice, and none left out; the heading has the number of the file's name."""
    pages = sorted((DOCS / "adr").glob("*.md"))
    numbers = Counter(int(page.name[:4]) for page in pages)
    assert [number for number, times in numbers.items() if times > 1] == []
    assert sorted(numbers) == list(range(1, len(pages) + 1))
    headings = {page.name: page.read_text().partition("\n")[0] for page in pages}
    assert [name for name, heading in headings.items() if not heading.startswith(f"# {int(name[:4])}. ")] == []


def test_the_index_names_every_page() -> None:
    """Who starts at docs/index.md gets everywhere, and nowhere that does not exist."""
    targets = {(DOCS / target).resolve() for target in re.findall(r"\]\(([^)#]+\.md)", INDEX.read_text())}
    assert sorted(str(page.relative_to(DOCS)) for page in set(DOCS.rglob("*.md")) - {INDEX} - targets) == []
    assert [str(target) for target in targets if not target.is_file()] == []


def test_links_between_pages_lead_somewhere() -> None:
    """Each relative link in docs/, README, CHANGELOG, ARCHITECTURE and CONTRIBUTING names a file or folder that is there."""
    broken = [
        f"{page.relative_to(DOCS.parent)}: {target}"
        for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", page.read_text())
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]
    assert broken == []
