"""The user's cache folder, and a lock for those who fill it.

``java`` and ``kafka`` keep there what is slow to make. Files appear complete
or not at all: they are made under another name and renamed.
"""

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from huleedu_service_libs.testing.devstack.errors import DevStackError
from huleedu_service_libs.testing.devstack.supervision import Supervisor

__all__ = ["cache_folder", "is_in_home", "make_once"]

_LOCK_LIMIT_S = 600.0
_LOCK_POLL_S = 0.2


def cache_folder(progress: Callable[[str], None]) -> Path:
    """Return ``huleedu-devstack`` in the user's cache folder, made when missing.

    Where it cannot be made or written to, return one in the temporary folder.

    Args:
        progress: Told in that case.

    Raises:
        DevStackError: Neither can be had.
    """
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = _writable(Path(base) / "huleedu-devstack")
    except (OSError, RuntimeError) as error:
        # RuntimeError: there is no home at all.
        problem = getattr(error, "strerror", None) or error
        folder = _temporary()
        progress(f"cache: {folder}, since the user's cache folder cannot be used ({problem}); or set XDG_CACHE_HOME")
    return folder


def is_in_home(path: Path) -> bool:
    """Return whether a path is not in the temporary folder that stands in for the user's cache."""
    return not path.is_relative_to(_temporary_path())


def _temporary_path() -> Path:
    # Another name than run folders have, which are swept.
    return Path(tempfile.gettempdir()) / f"huleedu-cache-{os.geteuid()}"


def _temporary() -> Path:
    folder = _temporary_path()
    try:
        folder = _writable(folder)
        status = folder.lstat()
    except OSError as error:
        raise DevStackError(f"no folder for a cache: {folder} cannot be used ({error.strerror})") from error
    if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
        raise DevStackError(f"no folder for a cache: {folder} belongs to somebody else")
    return folder


def _writable(folder: Path) -> Path:
    """Make the folder when it is missing.

    Raises:
        OSError: It cannot be made or written to.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
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
