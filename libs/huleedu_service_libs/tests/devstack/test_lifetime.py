"""Nothing that devstack starts outlives the process that asked, on disk neither."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from huleedu_service_libs.testing.devstack import DevStack, NotStartedError, WardenError
from huleedu_service_libs.testing.devstack.run_folders import create_run_folder, sweep_stale_runs
from huleedu_service_libs.testing.devstack.supervision import Command, Supervisor
from huleedu_service_libs.testing.devstack.warden import RECORD, identity

_OWNER = """
import sys, time
from huleedu_service_libs.testing.devstack import DevStack
stack = DevStack(environ={})
stack.start()
print(stack._run.folder, flush=True)
time.sleep(600)
"""
_MODULE = "huleedu_service_libs.testing.devstack"


def _eventually(condition: Callable[[], bool], limit: float = 30.0) -> bool:
    deadline = time.monotonic() + limit
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def _pids(folder: Path) -> tuple[int, list[int]]:
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record["warden"][0], [pid for pid, _ in record["servers"]]


def _all_gone(pids: list[int]) -> bool:
    return all(identity(pid) is None for pid in pids)


@pytest.fixture(name="owner")
def _owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has started all servers, and its run folder."""
    command = [sys.executable, "-c", _OWNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - the text above
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        yield process, folder
        process.kill()


@pytest.mark.integration
def test_sigkill_of_the_owner_leaves_nothing(owner: tuple[subprocess.Popen[str], Path]) -> None:
    """Servers, warden and run folder are gone within seconds after SIGKILL of the owner."""
    process, folder = owner
    warden, servers = _pids(folder)
    assert len(servers) == 3
    assert not _all_gone(servers)

    process.kill()

    assert _eventually(lambda: _all_gone([warden, *servers]))
    assert _eventually(lambda: not folder.exists())


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_sigkill_of_owner_and_warden_leaves_no_process(owner: tuple[subprocess.Popen[str], Path]) -> None:
    """With the warden killed too the kernel ends the servers; the next start removes the folder."""
    process, folder = owner
    warden, servers = _pids(folder)

    os.kill(warden, signal.SIGKILL)
    process.kill()
    process.wait()

    assert _eventually(lambda: _all_gone([warden, *servers]))
    assert folder in sweep_stale_runs()
    assert not folder.exists()


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_command_prints_addresses_and_stops(number: signal.Signals) -> None:
    """The command prints what to export, and ends with code 0 on Ctrl-C and SIGTERM."""
    command = [sys.executable, "-m", _MODULE, "--services", "redis"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HULEEDU_TEST_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
    assert any(line.startswith("export HULEEDU_TEST_REDIS_URL=redis://127.0.0.1:") for line in lines)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("whose", "words"), [("server", r"^redis \(127\.0\.0\.1:\d+\) ended$"), ("warden", "holds the servers is gone")]
)
def test_command_notices_an_end(whose: str, words: str) -> None:
    """When a server or the process that holds them ends, the command says so and ends with code 1."""
    command = [sys.executable, "-m", _MODULE, "--services", "redis"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HULEEDU_TEST_")}
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for line in process.stdout:
            if "Ctrl-C" in line:
                break
        warden, (server,) = _pids(_folder_of(process.pid))
        os.kill(server if whose == "server" else warden, signal.SIGKILL)
        assert process.wait(timeout=20) == 1
        assert re.search(words, process.stderr.read().strip())


def _folder_of(pid: int) -> Path:
    """The run folder of a process."""
    (folder,) = [
        owner.parent
        for owner in Path(tempfile.gettempdir()).glob("huleedu-devstack-*/owner.json")
        if json.loads(owner.read_text(encoding="utf-8"))[0] == pid
    ]
    return folder


def test_command_names_the_variable_of_a_dead_address() -> None:
    """A variable that names a server which does not answer ends the command with code 1 and one line."""
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", _MODULE, "--services", "redis"],
        env={**os.environ, "HULEEDU_TEST_REDIS_URL": "redis://127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "Redis: HULEEDU_TEST_REDIS_URL names redis://127.0.0.1:1, where nothing answers: "
        "start it there, or unset the variable\n"
    )
    assert "ready" not in done.stdout


def test_command_says_in_one_line_what_is_wrong() -> None:
    """An unknown service ends the command with code 1 and one line."""
    command = [sys.executable, "-m", _MODULE, "--services", "mongodb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - our own module
    assert done.returncode == 1
    assert (
        done.stderr
        == "unknown services ['mongodb']: choose from postgres, redis, kafka, redis_cluster, redis_sentinel, "
        "redis_tls, redis_cluster_tls, redis_sentinel_tls\n"
    )


@pytest.mark.integration
def test_stop_is_idempotent_and_start_works_again() -> None:
    """Stop before start and twice is fine; start after stop gives new servers."""
    stack = DevStack(["redis"], environ={})
    stack.stop()
    for _ in range(2):
        stack.start()
        assert stack.redis.address.startswith("redis://")
        stack.start()
        stack.stop()
        stack.stop()
        with pytest.raises(NotStartedError, match="redis is not running"):
            _ = stack.redis


@pytest.fixture(name="temporary")
def _temporary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder in place of the system's temporary folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture(name="sleeper")
def _sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a server left behind."""
    with subprocess.Popen(["/bin/sleep", "600"], start_new_session=True) as process:
        yield process
        process.kill()


def _leave_behind(folder: Path, server: int, start: str | None) -> None:
    (folder / "owner.json").write_text(json.dumps([server, "started another time"]), encoding="utf-8")
    word = {"warden": [server, "started another time"], "servers": [[server, start]]}
    (folder / RECORD).write_text(json.dumps(word), encoding="utf-8")


def test_sweep_ends_what_a_dead_run_left(temporary: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A folder of a dead owner and warden is removed, and its servers are ended."""
    folder = create_run_folder()
    _leave_behind(folder, sleeper.pid, identity(sleeper.pid))
    assert sweep_stale_runs() == [folder]
    assert sleeper.wait(timeout=30) == -signal.SIGKILL
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("temporary")
def test_sweep_spares_a_process_that_got_the_id_later(sleeper: subprocess.Popen[bytes]) -> None:
    """A process whose start time is not the recorded one is somebody else's: it lives on."""
    folder = create_run_folder()
    _leave_behind(folder, sleeper.pid, "started another time")
    assert sweep_stale_runs() == [folder]
    assert sleeper.poll() is None


@pytest.mark.usefixtures("temporary")
def test_sweep_spares_running_and_new_folders() -> None:
    """Folders of a living owner stay, and those that are only just being made."""
    mine = create_run_folder()
    new = create_run_folder()
    (new / "owner.json").unlink()
    assert sweep_stale_runs() == []
    os.utime(new, (0, 0))
    assert sweep_stale_runs() == [new]
    assert mine.exists()


def test_a_fork_of_the_owner_does_not_stop_the_servers(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child that closes the supervisor, as a ``with`` block may, leaves the servers to their owner."""
    supervisor = Supervisor(create_run_folder())
    pid = supervisor.spawn(Command(argv=["sleep", "600"], log=temporary / "log", cwd=temporary))
    with monkeypatch.context() as in_child:
        in_child.setattr(os, "getpid", lambda: -1)
        supervisor.close()
    assert supervisor.poll(pid) is None
    supervisor.close()
    assert identity(pid) is None


_FORKING_OWNER = """
import os, signal, time
from huleedu_service_libs.testing.devstack import DevStack
stack = DevStack(["redis"], environ={})
stack.start()
child = os.fork()
if not child:
    time.sleep(600)
print(stack._run.folder, child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.integration
def test_a_fork_of_the_owner_does_not_keep_the_servers() -> None:
    """A forked child holds the owner's pipes; the servers end with the owner all the same."""
    command = [sys.executable, "-c", _FORKING_OWNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - the text above
        assert process.stdout is not None
        folder, child = process.stdout.readline().split()
        try:
            assert _eventually(lambda: not Path(folder).exists())
            assert identity(int(child)) is not None
        finally:
            os.kill(int(child), signal.SIGKILL)


@pytest.mark.integration
def test_interrupted_start_leaves_nothing() -> None:
    """Ctrl-C while the servers start ends the command within seconds and leaves nothing."""
    command = [sys.executable, "-m", _MODULE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own module
        assert process.stdout is not None
        assert "starting" in process.stdout.readline()
        time.sleep(0.1)
        folder = _folder_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert not folder.exists()


def test_a_warden_that_does_not_answer_is_given_up(temporary: Path) -> None:
    """The caller gets an error within the limit, `close` is not held up, and nothing goes on running."""
    supervisor = Supervisor(create_run_folder(), answer_limit=0.2)
    # The warden tells when it is there; before, its programs could not be started either.
    pid = _spawn_patiently(supervisor, temporary)
    os.kill(supervisor._warden.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(WardenError, match="is gone"):
        supervisor.poll(pid)
    supervisor.close()
    assert time.monotonic() - began < 15
    if sys.platform == "linux":
        assert _eventually(lambda: identity(pid) is None)
    else:
        os.kill(pid, signal.SIGKILL)


def _spawn_patiently(supervisor: Supervisor, folder: Path) -> int:
    """Start a program, with all the time that a busy machine takes for the warden's own start."""
    limit, supervisor._answer_limit = supervisor._answer_limit, 30.0
    pid = supervisor.spawn(Command(argv=["sleep", "600"], log=folder / "log", cwd=folder))
    supervisor._answer_limit = limit
    return pid


def test_refused_requests_are_named(temporary: Path) -> None:
    """A program that does not exist is an error with its name, and the warden lives on."""
    supervisor = Supervisor(create_run_folder())
    with pytest.raises(WardenError, match="cannot spawn no-such-program"):
        supervisor.spawn(Command(argv=["no-such-program"], log=temporary / "log", cwd=temporary))
    supervisor.check()
    supervisor.close()
    supervisor.close()
    with pytest.raises(WardenError, match="is gone"):
        supervisor.poll(1)
