"""The 54 defects of the earlier library: each has its tests, or a decision why it stays; `defects` has the table.

That they would fail is not believed but tried: ``make defects`` brings each defect of `returning_defects` back, by an edit of
a copy of the source, and demands that one of its tests fails; all 52 were
found. Two have no edit. 31 stays as it was, and for 51 no small edit
is the defect: loggers have nothing to bind.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from huleedu_service_libs.outbox import OutboxSettings
from huleedu_service_libs.outbox.di import settings_for_environment
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_client import RedisClient
from tests.contract.defects import EVIDENCE, TESTS
from tests.contract.report import REPORT
from tests.contract.returning_defects import RETURNING

ROOT = Path(__file__).parents[2]
OPEN = 0
"""How many defects have no evidence. It may only go down."""


def _files() -> list[str]:
    named = {one.partition("::")[0] for all_of_one in EVIDENCE.values() for one in all_of_one}
    return sorted(TESTS + name for name in named if name.endswith(".py"))


@pytest.fixture(name="collected", scope="module")
def _collected() -> set[str]:
    """The tests that pytest finds in the files that are named, without their parameters."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *_files()]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    return {line.partition("[")[0].removeprefix(TESTS) for line in found.stdout.splitlines() if "::" in line}


def _stands(evidence: str, number: int, collected: set[str]) -> bool:
    if evidence.startswith("adr/"):
        return f"\n| {number} |" in (ROOT / "docs" / evidence).read_text(encoding="utf-8")
    name = evidence.removeprefix("here::")
    return name in globals() if name != evidence else evidence in collected


def test_every_defect_is_listed() -> None:
    """The table has each of the 54 numbers, and as many without evidence as are admitted."""
    missing = sorted(number for number, evidence in EVIDENCE.items() if not evidence)
    REPORT.add(f"defects of the earlier library with evidence: {len(EVIDENCE) - len(missing)} of 54")
    REPORT.update(f"defect {number}: OPEN" for number in missing)
    assert (list(EVIDENCE), len(missing)) == (list(range(1, 55)), OPEN)


@pytest.mark.parametrize("number", EVIDENCE, ids="defect_{:02}".format)
def test_the_evidence_of_a_defect_exists(number: int, collected: set[str]) -> None:
    """Each test that is named is one that pytest runs, and each decision has a row of the defect's number."""
    absent = [one for one in EVIDENCE[number] if not _stands(one, number, collected)]
    assert not absent, f"defect {number} names what is not there: {absent}"


def test_a_number_selects_its_tests() -> None:
    """``-k defect_24`` runs what finds that defect, whatever else the tests are called, and nothing else."""
    file = f"{TESTS}kafka/test_resilient_publisher.py"
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-k", "defect_24", file]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)  # noqa: S603
    selected = {line.partition("[")[0] for line in found.stdout.splitlines() if "::" in line}
    assert selected == {TESTS + one for one in EVIDENCE[24]}, found.stdout[-2000:] + found.stderr[-2000:]


def test_what_is_brought_back_can_be() -> None:
    """Each edit that brings a defect back still finds its text, once; only two numbers have none."""
    library = ROOT / "libs/huleedu_service_libs/src/huleedu_service_libs"
    stale = [n for n, edit in RETURNING.items() if (library / edit.module).read_text("utf-8").count(edit.text) != 1]
    assert not stale, f"adapt tests/contract/returning_defects.py to the source, then make defects DEFECTS={stale}"
    assert sorted(EVIDENCE.keys() - RETURNING.keys()) == [31, 51]
    REPORT.add(f"defects that `make defects` has brought back and found: {len(RETURNING)}")


@pytest.mark.parametrize("environment", ["testing", "development", "production", None])
def test_settings_of_the_outbox_print_nothing(
    environment: str | None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Defect 20: settings are provided without a word on standard output or error."""
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    if environment is not None:
        monkeypatch.setenv("ENVIRONMENT", environment)
    settings = settings_for_environment()
    assert isinstance(settings, OutboxSettings)
    assert capfd.readouterr() == ("", "")


async def test_a_redis_client_that_never_started_leaves_nothing() -> None:
    """Defect 27: stopping a client that never started leaves neither a connection nor a subscriber behind."""
    client, queue = RedisClient(client_id="idle"), QueueRedisClient(client_id="idle")
    await asyncio.wait_for(asyncio.gather(client.stop(), queue.stop()), 10)
    assert (client.pubsub, client._started, queue._started) == (None, False, False)
