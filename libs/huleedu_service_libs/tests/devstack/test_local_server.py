"""A server as a process of ours: how its failures are told, and what it needs of the machine."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import (
    CommandError,
    ServerStartError,
    free_ports,
)
from huleedu_service_libs.testing.devstack.local import LocalProcess, LocalServer
from huleedu_service_libs.testing.devstack.run_folders import create_run_folder
from huleedu_service_libs.testing.devstack.supervision import Command, Supervisor


@pytest.fixture(name="supervisor")
def _supervisor() -> Iterator[Supervisor]:
    """Holds processes for one test."""
    supervisor = Supervisor(create_run_folder())
    yield supervisor
    supervisor.close()


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
