"""What every test run of the workspace shares: Hypothesis' profile, names of tests by defects that they find, and the report of what ran.

With ``CI=true`` a skipped test fails the run: nothing may be left out for want of a server.
"""

import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from huleedu_service_libs._log_pipeline.logger import set_threshold, threshold
from huleedu_service_libs._log_pipeline.standard import RootHandler
from tests.contract.defects import names_of_tests

settings.register_profile(
    "house",
    deadline=None,  # machines are shared; a slow moment is no failure
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    print_blob=True,
)
settings.load_profile("house")

_IN_CI = os.environ.get("CI", "").lower() == "true"
_counts: Counter[tuple[str, str]] = Counter()
_skipped: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def _what_configured_logs_change_is_put_back() -> Iterator[None]:
    """A test that configures logging in its own process hides, draws and names nothing for the tests after it."""
    level, root_level, handlers = threshold(), logging.root.level, _handlers_of_ours()
    was_configured, settings_of_structlog = structlog.is_configured(), structlog.get_config()
    named = {name: os.environ.get(name) for name in ("SERVICE_NAME", "ENVIRONMENT")}
    yield
    set_threshold(level)
    if structlog.get_config()["processors"] is not settings_of_structlog["processors"]:
        structlog.reset_defaults()
        if was_configured:
            structlog.configure(**settings_of_structlog)
    if _handlers_of_ours() != handlers:
        _put_back(handlers, root_level)
    for name, value in named.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


def _handlers_of_ours() -> list[logging.Handler]:
    return [handler for handler in logging.root.handlers if isinstance(handler, RootHandler)]


def _put_back(handlers: list[logging.Handler], level: int) -> None:
    """Only those of ours: pytest has its own for each phase of a test."""
    for handler in _handlers_of_ours():
        logging.root.removeHandler(handler)
    for handler in handlers:
        logging.root.addHandler(handler)
    logging.root.setLevel(level)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that finds a defect of the earlier library can be asked for by its number: ``-k defect_23``."""
    names: dict[str, set[str]] = defaultdict(set)
    for test, name in names_of_tests():
        names[test].add(name)
    for item in items:
        item.extra_keyword_matches |= names.get(item.nodeid.partition("[")[0], set())


def _area(nodeid: str) -> str:
    """The folder below ``tests`` that a test stands in, with its package."""
    parts = Path(nodeid.split("::", maxsplit=1)[0]).parts
    package = next((part for part in parts if part not in {"libs", "examples"}), parts[0])
    inside = parts[parts.index("tests") + 1 :] if "tests" in parts else parts
    area = inside[0] if len(inside) > 1 else Path(inside[0]).stem.removeprefix("test_")
    return area if package == "tests" else f"{package}: {area}"


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test once, by what it came to."""
    if report.skipped:
        _skipped.append((report.nodeid, str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")))
    if report.failed or report.skipped or report.when == "call":
        _counts[_area(report.nodeid), report.outcome] += 1


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note a module that was skipped as a whole."""
    if report.skipped:
        _skipped.append((report.nodeid, str(report.longrepr[2] if isinstance(report.longrepr, tuple) else "")))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what ran where, and what was skipped and why."""
    areas = sorted({area for area, _ in _counts})
    terminalreporter.section("what ran")
    for area in areas:
        passed, failed, skipped = (_counts[area, outcome] for outcome in ("passed", "failed", "skipped"))
        more = (f", {failed} failed" if failed else "") + (f", {skipped} skipped" if skipped else "")
        terminalreporter.write_line(f"  {area:<45} {passed:>4} passed{more}")
    for nodeid, reason in _skipped:
        terminalreporter.write_line(f"  skipped: {nodeid}: {reason}")
    if not _skipped:
        terminalreporter.write_line("  nothing was skipped")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI a skipped test is a failure."""
    if _IN_CI and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
