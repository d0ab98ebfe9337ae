"""A journal of what waits: every message that a publisher keeps is in a file before `publish` returns.

`ResilientKafkaPublisher` writes it through `Safekeeping` and loads it at its start, so that a process that is killed
loses nothing that it had promised. Lines of JSON: a message that waits, or the number of one that does not any more.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from huleedu_service_libs import _json
from huleedu_service_libs.kafka.errors import JournalDamagedError, JournalInUseError
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.spill import fields_of, message_of
from huleedu_service_libs.logging_utils import create_service_logger

try:
    import fcntl
except ImportError:  # pragma: no cover  # Windows has no advisory locks: there nobody checks for a second process
    fcntl = None  # type: ignore[assignment]

__all__ = ["FileJournal"]

MOST_DEAD = 1000
"""Entries of messages that are gone, before the file is written anew."""

logger = create_service_logger("huleedu_service_libs.kafka")


@dataclass(slots=True, eq=False)
class _Entry:
    """A message in the file; holding it keeps its ``id`` from being used again."""

    message: QueuedMessage[Any]
    number: int
    line: bytes


@dataclass(slots=True, kw_only=True)
class _Change:
    """What is to be done to the file: append ``content``, or put it in place of everything."""

    content: bytes
    anew: bool = False
    durable: bool = True


class FileJournal:
    """Keeps messages in a file, one write ahead of the publisher's memory.

    Writes that are asked for at the same time share one, and one ``fsync``. A message is on the disk when `append`
    returns; a crash between the broker's acknowledgement and `remove` sends it twice.

    Args:
        path: The file, and beside it ``<path>.lock``; one process uses it. Made readable for its owner only.
        fsync: Survive a crash of the machine, not only of the process.
    """

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self.path = path
        self._fsync = fsync
        self._entries: dict[int, _Entry] = {}
        self._numbers = itertools.count()
        self._dead = 0
        self._behind = False  # a write has failed: the next one writes everything
        self._changes: list[_Change] = []
        self._asked = self._done = 0
        self._writing: asyncio.Task[None] | None = None
        self._file: IO[bytes] | None = None
        self._lock: IO[bytes] | None = None

    # What `MessageSpill` asks for

    async def load(self) -> list[QueuedMessage[Any]]:
        """The messages that wait, in order.

        Raises:
            JournalInUseError: Another process has it.
            JournalDamagedError: A line in it is none of ours; nothing is touched.
        """
        messages = await asyncio.to_thread(self._read)
        await self.save(messages)
        return messages

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Keep exactly these."""
        entries = [self._entry(message) for message in messages]
        self._entries = {id(entry.message): entry for entry in entries}
        await self._write_anew()

    # What `Safekeeping` looks for

    async def append(self, message: QueuedMessage[Any]) -> None:
        """Keep a message behind the others."""
        entry = self._entries[id(message)] = self._entry(message)
        if self._behind:
            await self._write_anew()
        else:
            await self._write(_Change(content=entry.line))

    async def remove(self, message: QueuedMessage[Any]) -> None:
        """A message needs no keeping any more. Not waited for until the disk has it: at worst it is sent twice."""
        entry = self._entries.pop(id(message), None)
        if entry is None:
            return
        self._dead += 1
        if self._behind or not self._entries or self._dead > max(MOST_DEAD, len(self._entries)):
            await self._write_anew()
        else:
            await self._write(_Change(content=b'{"gone":%d}\n' % entry.number, durable=False))

    async def close(self) -> None:
        """Finish writing and let another process have it; an empty file goes away."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.to_thread(self._release)

    # In the loop

    def _entry(self, message: QueuedMessage[Any]) -> _Entry:
        number = next(self._numbers)
        return _Entry(message, number, _json.dumps({"number": number, **fields_of(message)}) + b"\n")

    async def _write_anew(self) -> None:
        self._dead = 0
        await self._write(_Change(content=b"".join(entry.line for entry in self._entries.values()), anew=True))

    async def _write(self, change: _Change) -> None:
        """Return when ``change`` is in the file. Changes keep the order in which they were asked for.

        A caller that is cancelled leaves its change to the task that writes.
        """
        self._changes.append(change)
        self._asked += 1
        mine = self._asked
        while self._done < mine:
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write_changes(), name="kafka-journal")
                self._writing.add_done_callback(_seen)
            await asyncio.shield(self._writing)

    async def _write_changes(self) -> None:
        changes, self._changes, last = self._changes, [], self._asked
        try:
            await asyncio.to_thread(self._apply, changes)
        except BaseException:
            self._behind = True
            raise
        else:
            self._behind = self._behind and not any(change.anew for change in changes)
        finally:
            self._done = last  # also when it failed: each caller is told

    # In a thread, one at a time

    def _apply(self, changes: Sequence[_Change]) -> None:
        appended: list[_Change] = []
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
            self._file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "ab", buffering=0)
        return self._file

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

    def _read(self) -> list[QueuedMessage[Any]]:
        self._take_lock()
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return []
        lines = content.split(b"\n")
        if lines.pop():  # the process was killed while it wrote this one, so nobody was promised anything
            logger.warning("kafka_journal_ends_in_half_a_line", path=str(self.path))
        waiting: dict[int, QueuedMessage[Any]] = {}
        for place, line in enumerate(lines, start=1):
            _read_line(line, waiting, lambda why, place=place: JournalDamagedError(self.path, place, why))
        return list(waiting.values())

    def _release(self) -> None:
        self._close_file()
        if self._lock is None:
            return
        if not self._entries and self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()
        self._lock.close()
        self._lock = None

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


def _seen(task: asyncio.Task[None]) -> None:
    """Everybody who waited was told; if all were cancelled, asyncio need not report it as unseen."""
    if not task.cancelled():
        task.exception()
