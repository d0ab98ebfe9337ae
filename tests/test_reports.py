"""What a run reports is the same whether one process runs the tests or workers of pytest-xdist do."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TESTS = {
    "tests/area/test_good.py": "def test_a(): pass\ndef test_b(): pass\n",
    "tests/area/test_mixed.py": "import pytest\ndef test_c(): pass\ndef test_d(): pytest.skip('no server')\n",
    "tests/test_whole.py": "import pytest\npytest.skip('no browser', allow_module_level=True)\n",
}
SETTINGS = f"""
[pytest]
asyncio_default_fixture_loop_scope = function
pythonpath = {ROOT}
addopts = --import-mode=importlib
"""
TOLD = [
    "area 3 passed, 1 skipped",
    "skipped: tests/area/test_mixed.py::test_d: Skipped: no server",
    "skipped: tests/test_whole.py: Skipped: no browser",
]


def _run(folder: Path, *arguments: str) -> tuple[int, list[str]]:
    """Exit status and lines, each with single spaces, of a run in that folder under CI."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(  # noqa: S603  # our own command
        command, cwd=folder, env={**ours, "CI": "true"}, capture_output=True, text=True, timeout=380, check=False
    )
    return done.returncode, [" ".join(line.split()) for line in done.stdout.splitlines()]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("workers", [(), ("-n2", "--dist=loadfile")], ids=["one process", "workers"])
def test_what_ran_is_told_and_a_skip_fails_in_ci(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """Each test counts once, each skip is named with its reason, a module's too, and ends a run in CI with a failure."""
    for name, text in TESTS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(SETTINGS, encoding="utf-8")
    shutil.copy(ROOT / "conftest.py", tmp_path)
    status, lines = _run(tmp_path, *workers)
    assert status == pytest.ExitCode.TESTS_FAILED, lines
    assert [line for line in TOLD if lines.count(line) != 1] == [], lines


@pytest.mark.timeout(400)
def test_workers_hand_over_what_the_contract_reports() -> None:
    """Rows that hold, and findings of the modules, reach the process that prints them."""
    some = ["tests/contract/test_names.py", "tests/contract/test_section_14_configuration.py"]
    _, lines = _run(ROOT, "-n1", *some)
    assert [line for line in lines if re.fullmatch(r"names resolved: (\d+) of \1, in \d+ modules", line)], lines
    (held,) = [line for line in lines if line.startswith("section 14 ")]
    covered, rows, holding = map(int, re.findall(r"\d+", held)[-3:])
    assert 0 < covered == holding <= rows
