"""The process that forks the children: everything is imported once, a child starts in milliseconds.

`nursery` starts it as ``python -m`` and talks to it in lines of JSON: commands on standard input, events on
standard output. It holds no event loop and no thread, so that forking is safe. When its input ends,
because its owner has ended, it kills and reaps its children; when it is killed itself, they notice by a pipe.
"""

import asyncio
import gc
import importlib
import importlib.util
import inspect
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["main", "tell"]

_events: int | None = None  # file descriptor of the owner's end
_token = ""  # by which the owner knows this child


def tell(**event: Any) -> None:
    """Send one event to the owner; outside of a nursery there is none, and nothing happens.

    A line is shorter than PIPE_BUF, so the writes of all processes stay whole.
    """
    if _events is not None:
        os.write(_events, json.dumps({"from": _token, **event}).encode() + b"\n")


def main() -> None:
    """Serve commands until the input ends."""
    global _events  # noqa: PLW0603  # one owner for a process
    _events = os.dup(1)
    os.dup2(2, 1)  # what a module prints while it is imported is no event
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()
    _Nursery().serve()


class _Nursery:
    """Forks, signals and reaps."""

    def __init__(self) -> None:
        self._children: dict[int, str] = {}
        self._alive, self._lifeline = os.pipe()  # children read the one, nobody writes the other
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)

    def serve(self) -> None:
        tell(nursery="ready")
        pending = b""
        while True:
            ready, _, _ = select.select([0, self._wake], [], [])
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._reap()
            if 0 in ready:
                data = os.read(0, 65536)
                if not data:
                    return self._end()
                *lines, pending = (pending + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, command: Mapping[str, Any]) -> None:
        if "signal" in command:
            if command["to"] in self._children:
                os.kill(command["to"], command["signal"])
            return
        pid = os.fork()
        if pid == 0:
            self._become(command)
        self._children[pid] = command["token"]
        tell(spawned=command["token"], child=pid)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                tell(stopped=self._children[pid])
                continue
            token = self._children.pop(pid)
            tell(ended=token, code=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _become(self, command: Mapping[str, Any]) -> NoReturn:
        """Be the child; never returns."""
        global _token  # noqa: PLW0603  # as above
        code = 1
        try:
            _token = command["token"]
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._lifeline, self._wake, self._woken):
                os.close(descriptor)
            log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, descriptor in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, descriptor)
            os.environ.update(command["env"])
            threading.Thread(target=_end_with, args=(self._alive,), name="lifeline", daemon=True).start()
            _run(command["target"], command["options"])
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:  # noqa: BLE001  # the last place that sees it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _end_with(lifeline: int) -> None:
    """End this process when the nursery has ended, however that came."""
    os.read(lifeline, 1)
    os._exit(1)


def _run(target: str, options: Mapping[str, Any]) -> None:
    function = _resolve(target)
    result = function(**options)
    if inspect.iscoroutine(result):
        asyncio.run(result)


def _resolve(target: str) -> Callable[..., Any]:
    """The function that ``package.module:function`` or ``/path/to/file.py:function`` names."""
    place, _, name = target.rpartition(":")
    module = _load(place) if place.endswith(".py") else importlib.import_module(place)
    function: Callable[..., Any] = getattr(module, name)
    return function


def _load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos_target", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded as a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    # Under the name by which children import it, so that there is one `tell`.
    importlib.import_module("huleedu_service_libs.testing.chaos.nursery_process").main()
