"""A server process on this machine that can be stopped, killed and started again.

``postgres``, ``redis``, ``kafka`` and ``tansu`` describe theirs; this module
knows only commands, ports and waiting.
"""

import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from huleedu_service_libs.testing.devstack.errors import ServerStartError, log_tail
from huleedu_service_libs.testing.devstack.supervision import Command, Supervisor

__all__ = ["LOOPBACK", "LocalProcess", "LocalServer", "free_ports"]

LOOPBACK = "127.0.0.1"

_POLL_S = 0.02
_BETWEEN_ATTEMPTS_S = 0.3
# Below the range from which Linux and macOS number outgoing connections: a
# port taken from there could be in use by one when the server restarts.
_PORTS = range(15_000, 32_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalServer:
    """How to run a server.

    Attributes:
        name: For messages (``kafka node 2``).
        address: Where it answers, for messages.
        command: What to run.
        is_ready: Asked again and again while it starts.
        stop_signal: Asks it to stop gracefully.
        start_limit: Seconds until it must be ready.
        stop_limit: Seconds until a graceful stop turns into SIGKILL.
        attempts: How often to start it when it ends while starting.
    """

    name: str
    address: str
    command: Command
    is_ready: Callable[[], bool]
    stop_signal: int = signal.SIGTERM
    start_limit: float = 60.0
    stop_limit: float = 20.0
    attempts: int = 1


class LocalProcess:
    """Control of one server process.

    Args:
        server: How to run it.
        supervisor: Holds the process.
    """

    def __init__(self, server: LocalServer, supervisor: Supervisor) -> None:
        self._server = server
        self._supervisor = supervisor
        self._pid: int | None = None
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        """Process id while it runs, else None."""
        with self._lock:
            if self._pid is not None and self._supervisor.poll(self._pid) is not None:
                self._pid = None
            return self._pid

    def start(self) -> None:
        """Start and wait until it is ready; nothing happens when it runs.

        Raises:
            ServerStartError: It ended, or was not ready in time.
        """
        with self._lock:
            if self.pid is not None:
                return
            attempts = self._server.attempts
            while (code := self._start_once()) is not None:
                attempts -= 1
                if not attempts:
                    raise self._failure(f"ended with code {code} while starting")
                time.sleep(_BETWEEN_ATTEMPTS_S)

    def stop(self) -> None:
        """Stop gracefully; SIGKILL when that takes too long."""
        self._end(self._server.stop_signal, self._server.stop_limit)

    def kill(self) -> None:
        """End with SIGKILL."""
        self._end(signal.SIGKILL, self._server.stop_limit)

    def is_running(self) -> bool:
        """Whether the process is there."""
        return self.pid is not None

    def discard(self) -> None:
        """Do nothing: the warden ends it and removes its folder."""

    def _end(self, number: int, limit: float) -> None:
        with self._lock:
            pid = self.pid
            if pid is None:
                return
            self._supervisor.signal(pid, number)
            if self._supervisor.wait(pid, limit) is None:
                self._supervisor.signal(pid, signal.SIGKILL)
                self._supervisor.wait(pid, limit)
            self._pid = None

    def _start_once(self) -> int | None:
        """Return None when it is ready, its exit code when it ended."""
        self._pid = pid = self._supervisor.spawn(self._server.command)
        deadline = time.monotonic() + self._server.start_limit
        while not self._server.is_ready():
            if (code := self._supervisor.poll(pid)) is not None:
                self._pid = None
                return code
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"was not ready within {self._server.start_limit:g} s")
            time.sleep(_POLL_S)
        return None

    def _failure(self, problem: str) -> ServerStartError:
        server = self._server
        return ServerStartError(server.name, server.address, problem, log_tail(server.command.log))


def free_ports(count: int) -> list[int]:
    """Find loopback ports on which nobody listens.

    Args:
        count: How many.

    Returns:
        Different ports, free at this moment.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, k=len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            found.append(port)
    return found
