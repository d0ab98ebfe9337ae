"""Starts, watches, kills and restarts the child processes of a test, and leaves none behind.

One nursery imports the code under test once and forks a child in milliseconds, so that thousands of
kills are cheap. Children end with the nursery, the nursery ends with its owner, also when that gets SIGKILL.
For the event loop that has started it. Linux and macOS.
"""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._tasks import attended, begin, leave
from huleedu_service_libs.testing.chaos.children import Child, ChildError
from huleedu_service_libs.testing.chaos.points import CrashPlan

__all__ = ["Child", "ChildError", "Nursery"]

_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 10.0


class Nursery(StartStop):
    """Forks children on demand.

    Args:
        preload: Modules that every child finds imported.
        folder: Where the children's logs go; by default a temporary folder, removed at the end.
        env: Variables on top of the owner's environment.
        now: Seconds since the epoch.
    """

    def __init__(
        self,
        preload: Sequence[str] = (),
        *,
        folder: Path | None = None,
        env: Mapping[str, str] | None = None,
        now: _clock.Now = _clock.utc_now,
    ) -> None:
        self._preload = tuple(preload)
        self._own_folder = tempfile.TemporaryDirectory(prefix="nursery-") if folder is None else None
        self.folder = folder or Path(self._own_folder.name if self._own_folder else ".")
        self._env = {**(env or {}), "PYTHONPATH": os.pathsep.join(path or "." for path in sys.path)}
        self._now = now
        self._process: asyncio.subprocess.Process | None = None
        self._listener: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._children: dict[str, Child] = {}
        self._count = 0

    @property
    def children(self) -> list[Child]:
        """Those that run."""
        return [child for child in self._children.values() if child.running]

    async def start(self) -> None:
        """Start the forking process and wait until it has imported everything; a second call does nothing.

        Raises:
            ChildError: It ended, or was not ready within a minute.
        """
        if self._process is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / "nursery.log"
        with log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "huleedu_service_libs.testing.chaos.nursery_process",
                *self._preload,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                env={**os.environ, **self._env},
                start_new_session=True,  # Ctrl-C is the owner's
            )
        self._listener = begin(self._listen(self._process), name="nursery")
        ready = attended(self._ready.wait(), name="nursery-ready")  # no limit: left below
        await asyncio.wait({self._listener, ready}, timeout=_START_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        leave(ready)
        if not self._ready.is_set():
            await self.stop()
            raise ChildError("nursery", "did not start", log)

    async def stop(self) -> None:
        """Kill what runs, and end. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()  # it kills and reaps its children, then ends
        try:
            async with asyncio.timeout(_STOP_LIMIT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()  # no limit: it was killed
        if self._listener is not None:
            await self._listener
        if self._own_folder is not None:
            self._own_folder.cleanup()

    async def spawn(
        self,
        target: str,
        *,
        name: str | None = None,
        plan: CrashPlan | None = None,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Child:
        """Start a child; returns when it has a pid.

        Args:
            target: ``package.module:function`` or ``/path/to/file.py:function``; a coroutine function gets an event
                loop. The child ends when it returns, with 1 when it raises.
            name: Names the child and its log; by default the function's name.
            plan: The crash point that strikes.
            env: Further variables.
            options: Arguments of the function; what JSON can hold.

        Raises:
            ChildError: The nursery has ended.
            TypeError: An option cannot be encoded.
        """
        self._count += 1
        token = f"{self._count}"
        name = name or target.rpartition(":")[2]
        log = self.folder / f"{name}.log"
        command = {
            "token": token,
            "target": target,
            "options": options,
            "own_env": dict(env or {}),
            "env": {**(env or {}), **(plan.environment() if plan else {})},
            "log": str(log),
        }
        child = self._children[token] = Child(name, log, self, command, spawned_at=self._now().timestamp())
        self._send(command)
        await child._wait(child._spawned, "was not started", _START_LIMIT_S)  # noqa: SLF001  # its other half
        return child

    def signal(self, child: Child, number: int) -> None:
        """Send a signal to a child; nothing happens when it has ended.

        Raises:
            ChildError: The nursery itself has ended.
        """
        if child.running and self._process is not None:
            self._send({"signal": int(number), "to": child.pid})

    def _send(self, command: Mapping[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or self._process.returncode is not None:
            raise ChildError("nursery", "is not running: await start()", self.folder / "nursery.log")
        self._process.stdin.write(json.dumps(command).encode() + b"\n")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101  # a pipe, see start()
        async for line in process.stdout:
            with suppress(KeyError):  # of a child that this owner does not know: there is none
                self._note(json.loads(line))
        for child in self.children:  # the nursery is gone, and they with it
            self._note({"ended": child._command["token"], "code": -signal.SIGKILL})  # noqa: SLF001

    def _note(self, event: Mapping[str, Any]) -> None:
        if "nursery" in event:
            self._ready.set()
        elif "spawned" in event:
            child = self._children[event["spawned"]]
            child.pid = event["child"]
            child._spawned.set()  # noqa: SLF001
        elif "stopped" in event:
            self._children[event["stopped"]]._stopped.set()  # noqa: SLF001
        elif "ended" in event:
            child = self._children.pop(event["ended"])
            child.exit_code, child.ended_at = event["code"], self._now().timestamp()
            child._spawned.set()  # noqa: SLF001
            child._ended.set()  # noqa: SLF001
        else:
            self._note_of(event)

    def _note_of(self, event: Mapping[str, Any]) -> None:
        """What a child says itself."""
        child = self._children[event["from"]]
        if "struck" in event:
            child.struck = event["struck"]
            child._struck.set()  # noqa: SLF001
        elif "ready" in event:
            child._ready.set()  # noqa: SLF001
