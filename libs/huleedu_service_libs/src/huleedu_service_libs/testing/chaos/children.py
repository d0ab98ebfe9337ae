"""One child process of a nursery, as its owner sees it: waits with limits, signals, restarts."""

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from huleedu_service_libs._tasks import attended, leave
from huleedu_service_libs.testing.chaos.points import CrashPlan

__all__ = ["Child", "ChildError"]

_LOG_TAIL = 2000


class ChildError(RuntimeError):
    """A child, or the nursery itself, did something else than was waited for.

    Attributes:
        child: Its name.
        log_tail: The end of what it printed.
    """

    def __init__(self, child: str, problem: str, log: Path) -> None:
        self.child = child
        self.log_tail = _tail(log)
        super().__init__(f"{child} {problem}; the end of its output:\n{self.log_tail or '(it printed nothing)'}")


class _Keeper(Protocol):
    """What a child asks its nursery for."""

    def signal(self, child: "Child", number: int) -> None:
        """Send a signal."""

    async def spawn(
        self,
        target: str,
        *,
        name: str | None = None,
        plan: CrashPlan | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> "Child":
        """Start another."""
        ...


@dataclass(slots=True, eq=False)
class Child:
    """One child process; made by `Nursery.spawn`.

    Attributes:
        name: Names it in errors, and its log.
        pid: Its process id.
        log: File that its output is appended to.
        spawned_at: When, in seconds since the epoch.
        ended_at: When its end was noticed.
        exit_code: Its exit code, the negative signal number, or ``None`` while it runs.
        struck: The crash point that it has reached, or ``None``.
    """

    name: str
    log: Path
    _nursery: "_Keeper"
    _command: Mapping[str, Any]
    pid: int = 0
    spawned_at: float = 0.0
    ended_at: float | None = None
    exit_code: int | None = None
    struck: str | None = None
    _spawned: asyncio.Event = field(default_factory=asyncio.Event)
    _ready: asyncio.Event = field(default_factory=asyncio.Event)
    _struck: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: asyncio.Event = field(default_factory=asyncio.Event)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether its end is not known yet."""
        return self.exit_code is None

    async def wait_ready(self, limit: float = 30.0) -> None:
        """Wait until it has called `child.ready`.

        Raises:
            ChildError: It has ended, or was not ready within ``limit`` seconds.
        """
        await self._wait(self._ready, "was not ready", limit)

    async def wait_struck(self, limit: float = 30.0) -> None:
        """Wait until its crash point was reached.

        Raises:
            ChildError: It has ended before, or did not come there within ``limit`` seconds.
        """
        await self._wait(self._struck, "did not reach its crash point", limit)

    async def wait_stopped(self, limit: float = 30.0) -> None:
        """Wait until it stands still, as a plan with `Action.STOP` makes it; SIGCONT wakes it.

        Raises:
            ChildError: It has ended, or still moves after ``limit`` seconds.
        """
        await self._wait(self._stopped, "did not stop", limit)

    async def wait_end(self, limit: float = 30.0) -> int:
        """Wait until it has ended; its exit code, or the negative signal number.

        Raises:
            ChildError: It still runs after ``limit`` seconds.
        """
        await self._wait(self._ended, "did not end", limit)
        assert self.exit_code is not None  # noqa: S101  # set before the event
        return self.exit_code

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        self._nursery.signal(self, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send(signal.SIGKILL)

    def terminate(self) -> None:
        """Send SIGTERM: what an orchestrator sends first."""
        self.send(signal.SIGTERM)

    async def restart(self, plan: CrashPlan | None = None) -> "Child":
        """Kill it if it runs, and start another with the same target and options.

        Args:
            plan: Its crash point.

        Raises:
            ChildError: It did not end, or the other did not come up.
        """
        self.kill()
        await self.wait_end()
        return await self._nursery.spawn(
            self._command["target"], name=self.name, plan=plan, env=self._command["own_env"], **self._command["options"]
        )

    async def _wait(self, event: asyncio.Event, problem: str, limit: float) -> None:
        # no limit: left below
        waits = [attended(one.wait(), name="child-event") for one in {event, self._ended}]
        try:
            await asyncio.wait(waits, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leave(*waits)
        if event.is_set():
            return
        ended = f" and ended with {self.exit_code}" if self._ended.is_set() else f" within {limit:g} s"
        raise ChildError(self.name, problem + ended, self.log)


def _tail(log: Path) -> str:
    try:
        return log.read_bytes()[-_LOG_TAIL:].decode("utf-8", "replace").strip()
    except OSError:
        return ""
