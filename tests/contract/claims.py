"""Which test claims which row, and what came of it. Filled by `conftest` while pytest collects and runs; judged by `test_rows`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.contract.rows import Row, rows, titles

__all__ = ["CLAIMS", "Claims"]


@dataclass
class Claims:
    """Tests by row, and the outcome of each test that ran; a test that fails in its set-up or tear-down has failed."""

    tests: dict[str, set[str]] = field(default_factory=dict)
    outcomes: dict[str, str] = field(default_factory=dict)

    def claim(self, test: str, ids: Iterable[str]) -> None:
        """Note that a test was collected which judges these rows."""
        for one in ids:
            self.tests.setdefault(one, set()).add(test)

    def note(self, test: str, outcome: str) -> None:
        """Keep the worst of what is told about a test."""
        if self.outcomes.get(test) != "failed":
            self.outcomes[test] = outcome

    def unknown(self) -> list[str]:
        """Ids that are claimed and stand in no file."""
        return sorted(set(self.tests) - set(rows()))

    def unclaimed(self) -> list[str]:
        """Rows that no test claims and that do not say why."""
        return [one.id for one in rows().values() if not one.open and one.id not in self.tests]

    def needlessly_open(self) -> list[str]:
        """Rows that are said to be open and have a test."""
        return [one.id for one in rows().values() if one.open and one.id in self.tests]

    def lines(self) -> Iterator[str]:
        """The report of the sections that something was run of."""
        for section, title in titles().items():
            of_section = [row for row in rows().values() if row.section == section]
            if any(self._ran(row) for row in of_section):
                yield from self._section(f"section {section:02}", title, of_section)

    def _section(self, name: str, title: str, of_section: list[Row]) -> Iterator[str]:
        covered = [row for row in of_section if row.id in self.tests]
        held = [row for row in covered if {self.outcomes.get(test) for test in self.tests[row.id]} == {"passed"}]
        yield f"{name} {title}: {len(covered)} of {len(of_section)} rows covered, {len(held)} hold"
        for row in of_section:
            if row.open:
                yield f"{name}: OPEN {row.id}: {row.open}"
            elif failed := self._with(row, "failed"):
                yield f"{name}: BROKEN {row.id} ({row.kind}): {row.text} [{', '.join(failed)}]"
            elif skipped := self._with(row, "skipped"):
                yield f"{name}: NOT JUDGED {row.id}: skipped {', '.join(skipped)}"

    def _ran(self, row: Row) -> bool:
        return bool(self.tests.get(row.id, set()) & set(self.outcomes))

    def _with(self, row: Row, outcome: str) -> list[str]:
        found = sorted(test for test in self.tests.get(row.id, ()) if self.outcomes.get(test) == outcome)
        return [one.rpartition("::")[2] for one in found]


CLAIMS = Claims()
