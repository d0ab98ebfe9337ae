"""The owner's end of the warden: start programs, signal them, wait for them.

``local`` runs servers through it, ``postgres``, ``java`` and ``kafka`` their helper
programs. Thread-safe. It does not know which program is which.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huleedu_service_libs.testing.devstack import warden
from huleedu_service_libs.testing.devstack.errors import CommandError, RefusedError, WardenError, log_tail

__all__ = ["LET_FINISH", "Command", "Supervisor"]

LET_FINISH = 0
"""Ending signal for a short program that is better not interrupted; SIGKILL follows after three seconds."""

_POLL_S = 0.02
_WARDEN_EXIT_S = 20.0
_ANSWER_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run, apart from the owner's terminal.

    Attributes:
        argv: Program and arguments.
        log: File that its output is appended to.
        cwd: Working folder.
        env: Variables on top of the owner's environment.
        user: User and group ids to run as; None for the owner's.
        ending_signal: What the warden sends when the owner has ended.
    """

    argv: Sequence[str]
    log: Path
    cwd: Path
    env: Mapping[str, str] = field(default_factory=dict)
    user: tuple[int, int] | None = None
    ending_signal: int = signal.SIGKILL


class Supervisor:
    """Run programs that end with this process, whatever ends it.

    Args:
        folder: The run folder; it is removed by ``close()`` or when this process ends.
        answer_limit: Seconds in which the warden answers; one that does not is ended, and its programs with it.

    Raises:
        WardenError: By every method: the warden is gone, or could not do it (then a `RefusedError`).
    """

    def __init__(self, folder: Path, *, answer_limit: float = _ANSWER_LIMIT_S) -> None:
        self.folder = folder
        self._answer_limit = answer_limit
        self._lock = threading.Lock()
        self._owner = os.getpid()
        with (folder / "warden.log").open("ab") as log:
            self._warden = subprocess.Popen(  # noqa: S603 - our own file
                [sys.executable, "-I", "-S", warden.__file__, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    def spawn(self, command: Command) -> int:
        """Start a program in a session of its own.

        Returns:
            Its process id.

        Raises:
            RefusedError: It could not be started.
            WardenError: The warden is gone.
        """
        user, group = command.user or (None, None)
        answer = self._ask(
            {
                "do": "spawn",
                "argv": list(command.argv),
                "log": str(command.log),
                "cwd": str(command.cwd),
                "env": {**os.environ, **command.env},
                "user": user,
                "group": group,
                "ending_signal": command.ending_signal,
            },
        )
        return int(answer["pid"])

    def signal(self, pid: int, number: int) -> None:
        """Send a signal to a started program's process group; nothing happens when it has ended."""
        self._ask({"do": "signal", "pid": pid, "signal": number})

    def poll(self, pid: int) -> int | None:
        """Return the exit code of a started program, None while it runs."""
        code: int | None = self._ask({"do": "poll", "pid": pid})["code"]
        return code

    def wait(self, pid: int, limit: float) -> int | None:
        """Wait for a started program to end.

        Args:
            pid: Its process id.
            limit: Seconds.

        Returns:
            Its exit code; None when it still runs.
        """
        deadline = time.monotonic() + limit
        while (code := self.poll(pid)) is None and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return code

    def run(self, command: Command, limit: float) -> None:
        """Run a helper program to its end.

        Args:
            command: What to run.
            limit: Seconds until it is killed.

        Raises:
            CommandError: It failed or took too long.
        """
        program = Path(command.argv[0]).name
        pid = self.spawn(command)
        code = self.wait(pid, limit)
        if code is None:
            self.signal(pid, signal.SIGKILL)
            raise CommandError(program, f"did not end within {limit:g} s", log_tail(command.log))
        if code:
            raise CommandError(program, f"ended with code {code}", log_tail(command.log))

    def check(self) -> None:
        """Raise when there is nobody left to hold programs.

        Raises:
            WardenError: It was closed, or the warden is gone.
        """
        if self._warden.poll() is not None:
            raise self._gone()

    def close(self) -> None:
        """End every program and remove the run folder. Idempotent; a fork of the owner closes nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            for pipe in (self._warden.stdin, self._warden.stdout):
                if pipe is not None:
                    # Closing flushes; a warden that is gone takes nothing.
                    with suppress(BrokenPipeError):
                        pipe.close()
            try:
                self._warden.wait(timeout=_WARDEN_EXIT_S)
            except subprocess.TimeoutExpired:
                # Its servers die with it (Linux) or are swept at the next start.
                self._warden.kill()
                self._warden.wait()  # no limit: it was killed

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            line = self._exchange(json.dumps(request).encode() + b"\n")
        if not line:
            raise self._gone()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise RefusedError(f"cannot {request['do']} {request.get('argv', [''])[0]}: {answer['error']}")
        return answer

    def _gone(self) -> WardenError:
        log = log_tail(self.folder / "warden.log")
        return WardenError(f"the process that holds the servers is gone (stopped, or killed):\n{log}")

    def _exchange(self, line: bytes) -> bytes:
        if self._warden.stdin is None or self._warden.stdout is None:
            raise WardenError("the warden has no pipes")
        try:
            self._warden.stdin.write(line)
            self._warden.stdin.flush()
            # A request at a time, a line each: nothing is left in the reader's buffer that poll would not see.
            answers = select.poll()
            answers.register(self._warden.stdout, select.POLLIN)
            if not answers.poll(self._answer_limit * 1000):
                self._warden.kill()  # a late answer would be taken for the next one
                return b""
            return self._warden.stdout.readline()
        except (OSError, ValueError):
            return b""
