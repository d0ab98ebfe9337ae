"""One service as a process, and what it writes.

`processes` puts three of them together. It knows how to ask a service whether
it is healthy and to tell it to stop, nothing of servers and settings.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx

__all__ = ["HOST", "Log", "ServiceFailedError", "ServiceProcess"]

HOST = "127.0.0.1"

_STOP_LIMIT_S = 25.0
_POLL_S = 0.05
_PROBE_S = 3.0
_TAIL_LINES = 5
_LINE_WIDTH = 140
# What a log line says besides these is worth reading.
_FRAME = {"timestamp", "level", "logger_name", "event", "service.name", "deployment.environment", "exception"}


class ServiceFailedError(Exception):
    """A service ended by itself or did not become healthy, or has no server.

    Args:
        reason: Why, in one line.
        log: The last lines of the service concerned, for people.

    Attributes:
        log: As given.
    """

    def __init__(self, reason: str, log: str = "") -> None:
        super().__init__(reason)
        self.log = log


class Log:
    """What a service wrote.

    Args:
        path: Where it is kept; without one nothing stays on disk, whatever ends this process.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        # Without buffer; appending, so that reading here does not move where the service writes.
        self.file: BinaryIO = tempfile.TemporaryFile("a+b", 0) if path is None else path.open("a+b", 0)  # noqa: SIM115  # lives as long as its service

    def close(self) -> None:
        """Close the file; what has a path can still be read."""
        self.file.close()

    def text(self) -> str:
        """Everything so far."""
        if self.file.closed:
            return "" if self.path is None else self.path.read_text(errors="replace")
        size = os.fstat(self.file.fileno()).st_size
        return os.pread(self.file.fileno(), size, 0).decode(errors="replace")

    def tail(self) -> str:
        """The last lines, indented and without what only machines read."""
        lines = [_readable(line) for line in self.text().splitlines() if line.strip()]
        return "\n".join(f"  {line[:_LINE_WIDTH]}" for line in lines[-_TAIL_LINES:]) or "  (empty)"


@dataclass(slots=True, kw_only=True)
class ServiceProcess:
    """One running service.

    Attributes:
        name: ``intake``, ``spellcheck`` or ``notify``.
        port: Where it listens.
        environment: Its settings.
        process: The operating system's.
        log: What it wrote.
    """

    name: str
    port: int
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Log

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    def wait_until_healthy(self, limit: float) -> None:
        """Wait for 200 of ``/healthz``.

        Args:
            limit: Seconds.

        Raises:
            ServiceFailedError: It ended, or is not healthy in time.
        """
        deadline = time.monotonic() + limit
        answer = "no answer"
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                response = httpx.get(f"{self.url}/healthz", timeout=_PROBE_S, trust_env=False)
            except httpx.HTTPError as error:
                answer = repr(error)
            else:
                if response.is_success:
                    return
                answer = response.text
            time.sleep(_POLL_S)
        raise ServiceFailedError(f"{self.name} is not healthy after {limit:g} s ({answer})", self.log_tail())

    def check_alive(self) -> None:
        """Do nothing while it runs.

        Raises:
            ServiceFailedError: It has ended.
        """
        code = self.process.poll()
        if code is not None:
            raise ServiceFailedError(f"{self.name} ended with code {code}", self.log_tail())

    def log_tail(self) -> str:
        """The end of its log, under a heading."""
        return f"the end of {self.name}'s log:\n{self.log.tail()}"

    def terminate(self) -> None:
        """Ask it to stop gracefully."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def wait(self, limit: float = _STOP_LIMIT_S) -> int:
        """Wait for its end; kill it when that takes too long.

        Returns:
            The exit code.
        """
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def _readable(line: str) -> str:
    """A line of a JSON log as time, level, event and what else it says; any other line as it is."""
    try:
        said: dict[str, Any] = json.loads(line)
        moment, level, event = str(said["timestamp"])[11:19], str(said["level"]).upper(), said["event"]
    except (ValueError, TypeError, KeyError):
        return line
    more = [f"{name}={value}" for name, value in said.items() if name not in _FRAME and value not in (None, "")]
    cause = str(said.get("exception") or "").strip().rpartition("\n")[2]
    return " ".join([moment, level, str(event), *([cause] if cause else []), *more])
