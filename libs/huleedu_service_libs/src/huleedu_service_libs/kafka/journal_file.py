"""The file of a `FileJournal`: its lines, its lock, and what a crash leaves at its end.

All methods block, and are called one after the other: the journal has a thread for them. Knows messages only as lines.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from huleedu_service_libs.kafka.errors import JournalDamagedError, JournalInUseError
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.spill import message_of
from huleedu_service_libs.logging_utils import create_service_logger

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows has no advisory locks: there nobody checks for a second process
    fcntl = None  # type: ignore[assignment]

__all__ = ["Change", "JournalFile"]

logger = create_service_logger("huleedu_service_libs.kafka")


@dataclass(slots=True, kw_only=True)
class Change:
    """What is to be done to the file: append ``content``, or put it in place of everything."""

    content: bytes
    anew: bool = False
    durable: bool = True


class JournalFile:
    """The file and its lock. Opened when it is needed, and let go by `release`.

    Args:
        path: The file, and beside it ``<path>.lock``.
        fsync: Whether changes are to survive a crash of the machine.
    """

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self.path = path
        self._fsync = fsync
        self._released = False
        self._file: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None

    def apply(self, changes: Sequence[Change]) -> None:
        """Write ``changes``, in their order. After `release` the file is let go again at once.

        Raises:
            JournalInUseError: Another process has it.
            OSError: The disk does not take them.
        """
        try:
            self._apply(changes)
        finally:
            if self._released:
                self.release()

    def read(self) -> dict[int, QueuedMessage[Any]]:
        """The messages that wait, by their numbers, in order. The file is held from now on.

        Raises:
            JournalInUseError: Another process has it.
            JournalDamagedError: A line in it is none of ours; nothing is touched.
        """
        self._take_lock()
        self._released = False
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        lines = content.split(b"\n")
        lines.pop()  # empty, or half a line: see `_drop_half_line`
        waiting: dict[int, QueuedMessage[Any]] = {}
        for place, line in enumerate(lines, start=1):
            _read_line(line, waiting, lambda why, place=place: JournalDamagedError(self.path, place, why))
        return waiting

    def release(self) -> None:
        """Let another process have it; an empty file goes away."""
        self._released = True
        self._close_file()
        if self._lock is None:
            return
        if self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()
        self._lock.close()
        self._lock = None

    def _apply(self, changes: Sequence[Change]) -> None:
        appended: list[Change] = []
        for change in changes:
            if change.anew:
                self._replace(change.content)
                appended = []  # it has those before it, or they are gone
            else:
                appended.append(change)
        if appended:
            self._extend(b"".join(change.content for change in appended), durable=any(one.durable for one in appended))

    def _extend(self, content: bytes, *, durable: bool) -> None:
        file = self._open()
        size = file.seek(0, os.SEEK_END)
        try:
            _write_all(file, content)
            if durable and self._fsync:
                os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), size)  # half a line in the middle would make the file unreadable
            raise

    def _replace(self, content: bytes) -> None:
        self._open()
        new = self.path.with_name(self.path.name + ".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            if self._fsync:
                os.fsync(file.fileno())
        new.replace(self.path)
        self._close_file()
        self._open()
        if self._fsync:
            _sync_folder(self.path.parent)

    def _open(self) -> IO[bytes]:
        self._take_lock()
        if self._file is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            self._file = os.fdopen(handle, "ab", buffering=0)
            self._drop_half_line(handle)
        return self._file

    def _drop_half_line(self, handle: int) -> None:
        """The process before was killed while it wrote it, so nobody was promised anything; nothing must be joined to it."""
        size = os.lseek(handle, 0, os.SEEK_END)
        if size and os.pread(handle, 1, size - 1) != b"\n":
            logger.warning("kafka_journal_ends_in_half_a_line", path=str(self.path))
            os.ftruncate(handle, os.pread(handle, size, 0).rfind(b"\n") + 1)

    def _take_lock(self) -> None:
        if self._lock is not None or fcntl is None:
            return
        place = self.path.with_name(self.path.name + ".lock")
        lock = os.fdopen(os.open(place, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise JournalInUseError(self.path) from error
        self._lock = lock

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _read_line(line: bytes, waiting: dict[int, QueuedMessage[Any]], damaged: Any) -> None:
    try:
        fields: dict[str, Any] = json.loads(line)
        if "gone" in fields:
            waiting.pop(int(fields["gone"]), None)
        else:
            number = fields.pop("number", None)
            waiting[-len(waiting) - 1 if number is None else number] = message_of(fields)  # a `FileSpill` has none
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(f"{type(error).__name__}: {str(error)[:200]}") from error


def _write_all(file: IO[bytes], content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
