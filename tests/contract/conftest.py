"""Notes which test claims which row of the contract, prints the report of `make contract`, and has the client of section 3.

Where workers of pytest-xdist run the tests, each hands over what it has noted, and the process that shows the run prints it.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from huleedu_service_libs.redis_client import RedisClient
from tests.contract.claims import CLAIMS
from tests.contract.report import REPORT

_HERE = Path(__file__).parent
_NEEDS_ALL = "test_every_row_has_a_test"


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    """On the session's Redis, as a service starts it."""
    client = RedisClient(client_id="contract", redis_url=redis_url)
    await client.start()
    yield client
    await client.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Note the claims; where only a part of the folder was asked for, nobody can say that a row has no test."""
    ours = [item for item in items if item.path.parent == _HERE]
    for item in ours:
        CLAIMS.claim(item.nodeid, [one for mark in item.iter_markers("contract") for one in mark.args])
    if {item.path for item in ours} >= set(_HERE.glob("test_*.py")):
        return
    early = [item for item in ours if item.name == _NEEDS_ALL]
    config.hook.pytest_deselected(items=early)
    items[:] = [item for item in items if item not in early]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what came of a test; `passed` counts for the test itself, not for its set-up."""
    if report.when == "call" or report.outcome != "passed":
        CLAIMS.note(report.nodeid, report.outcome)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over, in a worker, which claims it has collected and what the modules have found."""
    handed_over: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed_over is not None:
        claims = {row: sorted(tests) for row, tests in CLAIMS.tests.items()}
        handed_over["contract"] = {"claims": claims, "report": sorted(REPORT)}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker hands over; one that crashed has failed the run and hands over nothing."""
    noted = getattr(node, "workeroutput", {}).get("contract", {"claims": {}, "report": []})
    for row, tests in noted["claims"].items():
        for test in tests:
            CLAIMS.claim(test, [row])
    REPORT.update(noted["report"])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the modules of the contract found, and the rows of each section."""
    found = sorted({*REPORT, *CLAIMS.lines()})
    if not found:
        return
    terminalreporter.section("contract")
    for line in found:
        terminalreporter.write_line(f"  {line}")
