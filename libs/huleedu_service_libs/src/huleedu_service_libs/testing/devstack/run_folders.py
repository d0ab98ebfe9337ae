"""Run folders: one temporary folder a stack, and the sweep of those that were left behind.

``stack`` makes one at each start; what else belongs to a run is in ``run_context``. Nothing here knows what servers keep in it.
"""

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from huleedu_service_libs.testing.devstack.warden import RECORD, identity

__all__ = ["create_run_folder", "sweep_stale_runs"]

_PREFIX = "huleedu-devstack-"
_OWNER = "owner.json"
_UNOWNED_AGE_S = 60.0


def create_run_folder() -> Path:
    """Make the folder of one run, marked with this process as its owner.

    Returns:
        A new folder that only this user can list.
    """
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root; the user that it gets must be able to walk through.
        folder.chmod(0o711)
    record = json.dumps([os.getpid(), identity(os.getpid())])
    (folder / _OWNER).write_text(record, encoding="utf-8")
    return folder


def sweep_stale_runs() -> list[Path]:
    """Remove run folders whose owner and warden are both gone, and end what they left running.

    Only processes whose id and start time are those recorded are ended.

    Returns:
        The folders that were removed.
    """
    folders = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*")
    stale = [folder for folder in folders if _is_stale(folder)]
    for folder in stale:
        for server in _read(folder / RECORD, {"servers": []})["servers"]:
            if _is_alive(server):
                with contextlib.suppress(OSError):
                    os.killpg(server[0], signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
    return stale


def _is_stale(folder: Path) -> bool:
    try:
        status = folder.stat()
    except OSError:
        return False
    if status.st_uid != os.geteuid():
        return False
    owner = _read(folder / _OWNER, None)
    if owner is None:
        # Either being made right now, or its maker was killed in between.
        return time.time() - status.st_mtime > _UNOWNED_AGE_S
    warden = _read(folder / RECORD, {"warden": None})["warden"]
    return not _is_alive(owner) and (warden is None or not _is_alive(warden))


def _is_alive(process: list[Any]) -> bool:
    pid, start = process
    return start is not None and identity(pid) == start


def _read(file: Path, default: Any) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return default
