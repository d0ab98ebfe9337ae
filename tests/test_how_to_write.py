"""The page that takes a newcomer to a first service is typed and run as it stands: files, commands, tests, answers."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from huleedu_service_libs.testing.devstack import KafkaServer, PostgresServer, RedisServer, free_ports

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs/how-to/write-a-service.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SHELL = re.findall(r"```bash\n(.*?)```", PAGE, flags=re.DOTALL)
ANVIL = re.compile(r'        if delivery\.data\.item == "anvil":\n.*\n')

# What the test itself does instead: it has an environment and servers.
ONLY_TYPED = ("python3 -m venv", "-m huleedu_service_libs.testing.devstack", "export ", "python shop.py", "-m pytest")


@pytest.fixture(name="project")
def _project(tmp_path: Path) -> Path:
    """The files that the page has its reader write."""
    *service, test = PYTHON
    (tmp_path / "shop.py").write_text("\n\n".join(service), encoding="utf-8")
    (tmp_path / "test_shop.py").write_text(test, encoding="utf-8")
    (settings,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(settings, encoding="utf-8")
    return tmp_path


@pytest.fixture(name="environment")
def _environment(
    postgres_database: str, redis_server: RedisServer, kafka_server: KafkaServer, postgres_server: PostgresServer
) -> dict[str, str]:
    """What the page's exports come to, on servers of this run."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HULEEDU_"))}
    given = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HULEEDU_TEST_POSTGRES_URL": postgres_database.replace("+asyncpg", ""),
        "HULEEDU_TEST_REDIS_URL": redis_server.address,
        "HULEEDU_TEST_KAFKA_BOOTSTRAP": kafka_server.address,
    }
    (exports,) = [block for block in SHELL if block.startswith("export")]
    told = _shell(f"{exports}\nenv", {**kept, **given})
    return dict(line.split("=", 1) for line in told.splitlines() if "=" in line)


def _shell(command: str, environment: dict[str, str], folder: Path | None = None) -> str:
    done = subprocess.run(  # noqa: S603  # commands of a page of this repository
        ["bash", "-ec", command],  # noqa: S607  # as whoever reads the page has it
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def _serving(project: Path, environment: dict[str, str], port: int) -> Iterator[Path]:
    """The service in a process of its own; its log."""
    source = (project / "shop.py").read_text(encoding="utf-8").replace("port=8000", f"port={port}")
    (project / "served.py").write_text(source, encoding="utf-8")
    log = project / "log"
    with log.open("a") as out:
        process = subprocess.Popen(
            [sys.executable, "served.py"], cwd=project, env=environment, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        _wait(lambda: _ready(port), log)
        yield log
    finally:
        process.terminate()
        process.wait(timeout=60)


def _ready(port: int) -> bool:
    with suppress(URLError, OSError), urlopen(f"http://127.0.0.1:{port}/healthz/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def _wait(condition: Callable[[], Any], log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def _lines(log: Path, event: str) -> list[str]:
    return [line for line in log.read_text(encoding="utf-8").splitlines() if f"] {event} " in line]


def _field(line: str, name: str) -> str:
    return str(re.findall(rf"\b{name}=(\S+)", line)[0])


@pytest.mark.integration
def test_the_pages_service_runs_breaks_and_is_mended(project: Path, environment: dict[str, str]) -> None:
    """Each command of the page does what the page says: an order is packed under one correlation id, an anvil is set aside and sent back."""
    (port,) = free_ports(1)
    commands = [block.replace("localhost:8000", f"127.0.0.1:{port}") for block in SHELL if not _only_typed(block)]
    hat, looks, anvil, letters, redrive = commands
    with _serving(project, environment, port) as log:
        assert "order_id" in _shell(hat, environment)
        _wait(lambda: _lines(log, "order_packed"), log)
        placed, packed = _lines(log, "order_placed")[0], _lines(log, "order_packed")[0]
        assert _field(placed, "correlation_id") == _field(packed, "correlation_id")
        seen = _shell(looks, environment)
        assert '"service":"shop","status":"healthy"' in seen
        assert 'outbox_events_published_total{event_type="shop.order.placed.v1",service="shop"} 1.0' in seen
        assert re.search(r"status +healthy", seen)
        _shell(anvil, environment)
        _wait(lambda: _lines(log, "event_dead_lettered"), log)
        assert len([line for line in _lines(log, "event_not_processed") if "an anvil is too heavy" in line]) == 3
        assert "an anvil is too heavy" in _shell(letters, environment)
    source, mended = ANVIL.subn("", (project / "shop.py").read_text(encoding="utf-8"))
    assert mended == 1
    (project / "shop.py").write_text(source, encoding="utf-8")
    with _serving(project, environment, port) as log:
        _shell(redrive, environment)
        _wait(lambda: len(_lines(log, "order_packed")) == 2, log)


@pytest.mark.integration
def test_the_pages_tests_pass(project: Path, environment: dict[str, str]) -> None:
    """With the page's settings both of its tests pass, in a project that holds nothing else."""
    (command,) = [block for block in SHELL if "-m pytest" in block]
    assert "2 passed" in _shell(command, environment, project)


def _only_typed(block: str) -> bool:
    return any(part in block for part in ONLY_TYPED)


def test_what_the_page_installs_is_there() -> None:
    """The folders that it installs from exist, and so do the extras."""
    (install,) = [block for block in SHELL if "pip install" in block]
    folders = re.findall(r"huleedu-service-libs/(libs/\w+)(?:\[([\w,]+)\])?", install)
    assert [folder for folder, _ in folders] == ["libs/common_core", "libs/huleedu_service_libs"]
    declared = (ROOT / "libs/huleedu_service_libs/pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in declared for _, extras in folders for extra in extras.split(",") if extra)
