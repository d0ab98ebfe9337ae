"""The user's cache folder, and a lock for those who fill it.

``java`` and ``kafka`` keep there what is slow to make. Files appear complete
or not at all: they are made under another name and renamed.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huleedu_service_libs.testing.devstack.errors import DevStackError
from huleedu_service_libs.testing.devstack.supervision import Supervisor

__all__ = ["cache_folder", "make_once"]

_LOCK_LIMIT_S = 600.0
_LOCK_POLL_S = 0.2


def cache_folder() -> Path:
    """Return ``huleedu-devstack`` in the user's cache folder, made when missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "huleedu-devstack"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_once(target: Path, make: Callable[[Path], object], supervisor: Supervisor) -> None:
    """Have ``target`` made unless it exists, by one process at a time.

    Args:
        target: File or folder in the cache.
        make: Makes it under the path that it is given; leftovers there are its to remove.
        supervisor: Waiting for another process ends when this is closed.

    Raises:
        DevStackError: Another process held the lock for ten minutes.
    """
    if target.exists():
        return
    with _locked(target.with_name(f"{target.name}.lock"), supervisor):
        if not target.exists():
            draft = target.with_name(f"{target.name}.draft")
            make(draft)
            draft.rename(target)


@contextmanager
def _locked(file: Path, supervisor: Supervisor) -> Iterator[None]:
    """Hold a lock that other processes of this user respect; the system frees it when this one ends."""
    deadline = time.monotonic() + _LOCK_LIMIT_S
    with file.open("w", encoding="utf-8") as handle:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                supervisor.check()
                if time.monotonic() > deadline:
                    raise DevStackError(f"another process holds {file.name} since {_LOCK_LIMIT_S:g} s") from None
                time.sleep(_LOCK_POLL_S)
        yield
