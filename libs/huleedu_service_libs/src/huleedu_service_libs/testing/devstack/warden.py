"""The child process that starts the servers and ends them when their owner is gone.

``supervision`` runs this file by its path with the bare interpreter, so it
imports the standard library only. It is the parent of every server: their
process ids cannot be reused behind its back, and none can start unseen. It
knows nothing of PostgreSQL, Redis or Kafka.

One JSON object a line arrives on standard input and is answered by one line on
standard output. End of input, or another parent than at the start, means that
the owner has ended: every server is ended and the run folder removed.
"""

import contextlib
import ctypes
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["RECORD", "identity"]

RECORD = "warden.json"
_LOOK_AT_OWNER_S = 0.5
_GRACE_S = 3.0
_POLL_S = 0.01
_PR_SET_PDEATHSIG = 1


def identity(pid: int) -> str | None:
    """Tell a process from a later one that got the same id.

    Args:
        pid: A process id.

    Returns:
        A text that holds the time at which the process started; None when it does not run.
    """
    if sys.platform != "linux":
        done = subprocess.run(  # noqa: S603 - a number
            ["/bin/ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name in brackets may hold spaces; the fields after it are numbered from 3 (state).
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX":
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    return f"{boot}:{fields[19]}"


class _Warden:
    """Start processes on request; end all of them at the end.

    Args:
        folder: The run folder, removed at the end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner = os.getppid()
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._ending_signals: dict[int, int] = {}

    def serve(self) -> None:
        """Answer requests until the owner has ended, then clean up."""
        self._record()
        try:
            self._answer_requests()
        finally:
            self._end_all()
            _eventually(functools.partial(_remove, self._folder), time.monotonic() + _GRACE_S)

    def _answer_requests(self) -> None:
        pending = b""
        while os.getppid() == self._owner:
            # A fork of the owner keeps the pipe open, hence the look at the parent from time to time.
            readable, _, _ = select.select([0], [], [], _LOOK_AT_OWNER_S)
            if not readable:
                continue
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                os.write(1, json.dumps(self._answer(json.loads(line))).encode() + b"\n")

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            match request["do"]:
                case "spawn":
                    return {"pid": self._spawn(request)}
                case "signal":
                    self._signal(request["pid"], request["signal"])
                    return {}
                case "poll":
                    return {"code": self._children[request["pid"]].poll()}
                case unknown:
                    return {"error": f"unknown request {unknown!r}"}
        except (OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
            return {"error": f"{type(error).__name__}: {error}"}

    def _spawn(self, request: Mapping[str, Any]) -> int:
        user = request["user"]
        with Path(request["log"]).open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - the owner's wish
                request["argv"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=request["cwd"],
                env=request["env"],
                start_new_session=True,
                user=user,
                group=request["group"],
                extra_groups=None if user is None else [],
                preexec_fn=functools.partial(_die_with_parent, request["ending_signal"]),  # noqa: PLW1509 - one thread only
            )
        self._children[child.pid] = child
        self._ending_signals[child.pid] = request["ending_signal"]
        self._record()
        return child.pid

    def _signal(self, pid: int, number: int) -> None:
        if self._children[pid].poll() is None:
            os.killpg(pid, number)

    def _record(self) -> None:
        """Leave word for a later start, should this process be killed too."""
        running = [pid for pid, child in self._children.items() if child.poll() is None]
        word = {
            "warden": [os.getpid(), identity(os.getpid())],
            "servers": [[pid, identity(pid)] for pid in running],
        }
        draft = self._folder / f"{RECORD}.new"
        draft.write_text(json.dumps(word), encoding="utf-8")
        draft.replace(self._folder / RECORD)

    def _end_all(self) -> None:
        running = [pid for pid, child in self._children.items() if child.poll() is None]
        for pid in running:
            with contextlib.suppress(OSError):
                os.killpg(pid, self._ending_signals[pid])
        deadline = time.monotonic() + _GRACE_S
        for pid in running:
            # Left unreaped, so that its group cannot become somebody else's before the last signal.
            _eventually(functools.partial(_has_exited, pid), deadline)
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            self._children[pid].wait()  # no limit: it was killed
            _eventually(functools.partial(_group_is_empty, pid), time.monotonic() + _GRACE_S)


def _eventually(condition: Callable[[], bool], deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _has_exited(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _group_is_empty(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False


def _remove(folder: Path) -> bool:
    """Remove a folder; False when something is left, perhaps written by a process in its last moments."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _die_with_parent(ending_signal: int) -> None:
    """Ask the kernel to end the server should the warden itself be killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, ending_signal)


def _main() -> None:
    # Handlers that do nothing rather than SIG_IGN: the latter would be inherited by the servers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    _Warden(Path(sys.argv[1])).serve()


if __name__ == "__main__":
    _main()
