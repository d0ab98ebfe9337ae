"""The how-to page on real servers is as true as the code: its snippets run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import KafkaServer, Kind, PostgresServer, RedisServer
from tests.snippets import snippets_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "use-real-servers-in-tests.md"

_USES_THE_TEMPLATE = """
import asyncpg


async def test_the_database_is_a_copy(postgres_database):
    connection = await asyncpg.connect(postgres_database.replace("+asyncpg", "", 1))
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
"""


def _run(folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the tests in ``folder`` as a project of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HULEEDU_"))}
    return subprocess.run(  # the page of this repository
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """A project with the page's settings and nothing else."""
    (settings,) = snippets_of(PAGE, "toml")
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    return tmp_path


@pytest.mark.integration
def test_the_pages_first_test_and_its_template(
    project: Path, postgres_server: PostgresServer, redis_server: RedisServer
) -> None:
    """With the settings of the page its test passes, and `postgres_database` takes its `postgres_template`."""
    first, _, template = snippets_of(PAGE, "python")
    (project / "test_first.py").write_text(first, encoding="utf-8")
    (project / "conftest.py").write_text(template, encoding="utf-8")
    (project / "test_template.py").write_text(_USES_THE_TEMPLATE, encoding="utf-8")
    environment = {
        "HULEEDU_TEST_POSTGRES_URL": postgres_server.address,
        "HULEEDU_TEST_REDIS_URL": redis_server.address,
    }
    done = _run(project, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


@pytest.mark.integration
def test_the_pages_three_brokers(project: Path, kafka_server: KafkaServer) -> None:
    """One of three brokers can be killed and comes back, as the page shows it."""
    if kafka_server.kind is not Kind.JVM:
        pytest.skip("three brokers need Java and Maven")
    (project / "test_three.py").write_text(snippets_of(PAGE, "python")[1], encoding="utf-8")
    done = _run(project, {})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_page_names_every_fixture() -> None:
    """The table lists what the plugin has, and nothing else."""
    plugin = Path(sys.modules[KafkaServer.__module__].__file__ or "").parents[1] / "pytest_plugin.py"
    fixtures = set(re.findall(r'@pytest.fixture\(.*?name="(\w+)"', plugin.read_text(encoding="utf-8")))
    table = "".join(
        line.split("|")[1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")
    )
    assert set(re.findall(r"`(\w+)`", table)) == fixtures - {"postgres_template"}
