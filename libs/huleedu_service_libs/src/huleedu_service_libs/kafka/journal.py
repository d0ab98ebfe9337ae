"""A journal of what waits: every message that a publisher keeps is in a file before `publish` returns.

`ResilientKafkaPublisher` writes it through `Safekeeping` and loads it at its start, so that a process that is killed
loses nothing that it had promised. Lines of JSON: a message that waits, or the number of one that does not any more.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from huleedu_service_libs import _json
from huleedu_service_libs._tasks import attended, look_away
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.journal_file import Change, JournalFile
from huleedu_service_libs.kafka.spill import fields_of

__all__ = ["FileJournal"]

MOST_DEAD = 1000
"""Entries of messages that are gone, before the file is written anew."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True, eq=False)
class _Entry:
    """A message in the file; holding it keeps its ``id`` from being used again."""

    message: QueuedMessage[Any]
    number: int
    line: bytes


class FileJournal:
    """Keeps messages in a file, one write ahead of the publisher's memory.

    Writes that are asked for at the same time share one, and one ``fsync``. A message is on the disk when `append`
    returns; a crash between the broker's acknowledgement and `remove` sends it twice.

    Args:
        path: The file, and beside it ``<path>.lock``; one process uses it. Made readable for its owner only.
        fsync: Survive a crash of the machine, not only of the process.
    """

    def __init__(self, path: str | Path, *, fsync: bool = True) -> None:
        self.path = Path(path)
        self._file = JournalFile(self.path, fsync=fsync)
        self._entries: dict[int, _Entry] = {}
        self._numbers = itertools.count(secrets.randbits(60))  # not those of an earlier life: it may not be loaded yet
        self._dead = 0
        self._behind = False  # a write has failed: the next one writes everything
        self._changes: list[Change] = []
        self._writing: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None  # it takes all changes that come before it begins
        # One thread, so that nothing is read, written or closed while something else is, whoever was cancelled
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-journal")

    # What `MessageSpill` asks for

    async def load(self) -> list[QueuedMessage[Any]]:
        """The messages that wait, in order.

        Raises:
            JournalInUseError: Another process has it.
            JournalDamagedError: A line in it is none of ours; nothing is touched.
        """
        await self._written()
        first = next(self._numbers)
        found = await self._in_thread(self._file.read)
        mine = {entry.number: entry.message for entry in self._entries.values()}
        messages = [mine.get(number, message) for number, message in found.items()]  # `remove` knows them by identity
        messages += [message for number, message in mine.items() if number > first and number not in found]
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
            await self._write(Change(content=entry.line))

    async def remove(self, message: QueuedMessage[Any]) -> None:
        """A message needs no keeping any more. Not waited for until the disk has it: at worst it is sent twice."""
        entry = self._entries.pop(id(message), None)
        if entry is None:
            return
        self._dead += 1
        if self._behind or not self._entries or self._dead > max(MOST_DEAD, len(self._entries)):
            await self._write_anew()
        else:
            await self._write(Change(content=b'{"gone":%d}\n' % entry.number, durable=False))

    async def close(self) -> None:
        """Finish writing and let another process have it; an empty file goes away.

        What is asked for later is written as well, and the file let go at once.
        """
        await self._written()
        await self._in_thread(self._file.release)

    # In the loop

    def _entry(self, message: QueuedMessage[Any]) -> _Entry:
        number = next(self._numbers)
        return _Entry(message, number, _json.dumps({"number": number, **fields_of(message)}) + b"\n")

    async def _write_anew(self) -> None:
        self._dead = 0
        await self._write(Change(content=b"".join(entry.line for entry in self._entries.values()), anew=True))

    async def _write(self, change: Change) -> None:
        """Return when ``change`` is in the file. Changes keep the order in which they were asked for.

        A caller that is cancelled leaves its change to the task that writes.
        """
        self._changes.append(change)
        if self._next is None or self._next.done():  # done: it was cancelled before it began
            self._next = attended(self._write_changes(self._writing), name="kafka-journal")
            self._next.add_done_callback(look_away)  # everybody who waits is told, and all may have been cancelled
        await asyncio.shield(self._next)

    async def _write_changes(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])  # no limit: a write in a thread, which cannot be broken off
        self._writing, self._next = self._next, None
        changes, self._changes = self._changes, []
        try:
            await self._in_thread(self._file.apply, changes)
        except BaseException:
            self._behind = True
            raise
        else:
            self._behind = self._behind and not any(change.anew for change in changes)

    async def _written(self) -> None:
        """Return when what was asked for by now is in the file, or has failed."""
        last = self._next or self._writing
        if last is not None and not last.done():
            await asyncio.wait([last])  # no limit: as above

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **_keywords: P.kwargs) -> T:
        """Call ``work`` after everything that was asked for before; also if the caller is cancelled."""
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, work, *args))
