"""The report of `make contract`: how many names resolved, how many rows have a test, which defects are open."""

import pytest

from tests.contract.report import REPORT


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the modules of the contract found."""
    if not REPORT:
        return
    terminalreporter.section("contract")
    for line in sorted(REPORT):
        terminalreporter.write_line(f"  {line}")
