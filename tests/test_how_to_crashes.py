"""The page on crash tests is as true as the code: its snippets run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import RedisServer

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "test-crashes.md"


@pytest.mark.integration
def test_the_snippets_pass(tmp_path: Path, redis_server: RedisServer) -> None:
    """The victims, the kills, the proxy and the oracle of the page, in a project of their own."""
    victims, *tests = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\nasyncio_mode = "auto"\n', encoding="utf-8")
    (tmp_path / "victims.py").write_text(victims, encoding="utf-8")
    for number, test in enumerate(tests):
        (tmp_path / f"test_{number}.py").write_text(test, encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HULEEDU_"))}
    done = subprocess.run(  # the page of this repository
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**inherited, "HULEEDU_TEST_REDIS_URL": redis_server.address},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 passed" in done.stdout
