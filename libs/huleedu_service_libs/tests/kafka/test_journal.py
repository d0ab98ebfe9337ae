"""Messages that wait survive a kill: the journal alone, under the publisher, and in a process that is killed."""

import asyncio
import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError

from huleedu_service_libs.kafka import journal as journal_module
from huleedu_service_libs.kafka.errors import (
    JournalDamagedError,
    JournalInUseError,
)
from huleedu_service_libs.kafka.journal import FileJournal
from huleedu_service_libs.kafka.spill import FileSpill

from .journals import left_behind, load_again, numbers_of, waiting_message
from .publishers import Bus, envelope, guarded


async def test_what_was_appended_is_found_again(path: Path) -> None:
    """Messages come back whole and in order, without those that are gone; for its owner's eyes only."""
    journal = FileJournal(path)
    assert await journal.load() == []
    messages = [waiting_message(number) for number in range(5)]
    for message in messages:
        await journal.append(message)
    await journal.remove(messages[1])
    await journal.remove(waiting_message(9))  # one that it never had
    assert path.stat().st_mode & 0o077 == 0
    await journal.close()
    again = await load_again(path)
    assert again == [messages[0], *messages[2:]]


async def test_an_empty_journal_leaves_no_file(path: Path) -> None:
    """When nothing waits any more, the file is empty at once and gone after the stop."""
    journal = FileJournal(path)
    message = waiting_message(1)
    await journal.append(message)
    await journal.remove(message)
    assert path.read_bytes() == b""
    await journal.close()
    assert not path.exists()


async def test_a_thousand_appends_at_once_share_their_writes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are all there, in order, after far fewer syncs than messages."""
    syncs = 0
    sync = os.fsync

    def counted(handle: int) -> None:
        nonlocal syncs
        syncs += 1
        sync(handle)

    monkeypatch.setattr(os, "fsync", counted)
    journal = FileJournal(path)
    await asyncio.gather(*(journal.append(waiting_message(number)) for number in range(1000)))
    await journal.close()
    assert syncs < 20
    assert numbers_of(await load_again(path)) == list(range(1000))


async def test_the_file_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one message waits and thousands come and go, the file is written anew."""
    monkeypatch.setattr(journal_module, "MOST_DEAD", 50)
    journal = FileJournal(path, fsync=False)
    await journal.append(waiting_message(0))
    for number in range(1, 400):
        message = waiting_message(number)
        await journal.append(message)
        await journal.remove(message)
    assert len(path.read_bytes().splitlines()) <= 110
    assert await left_behind(path) == [0]
    await journal.close()


async def test_a_cancelled_append_is_written_all_the_same(path: Path) -> None:
    """The message still waits in memory, so the journal must have it; and the next one is not torn."""
    journal = FileJournal(path)
    task = asyncio.create_task(journal.append(waiting_message(0)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await journal.append(waiting_message(1))
    await journal.close()
    assert numbers_of(await load_again(path)) == [0, 1]


async def test_half_a_line_at_the_end_is_nobodys_promise(path: Path) -> None:
    """A process that was killed while it wrote leaves half a line, which is left out."""
    journal = FileJournal(path)
    for number in range(3):
        await journal.append(waiting_message(number))
    await journal.close()
    content = path.read_bytes()
    for cut in (1, 50, len(content) // 3 - 1):
        path.write_bytes(content[:-cut])
        journal = FileJournal(path)
        assert numbers_of(await journal.load()) == [0, 1]
        await journal.append(waiting_message(7))
        await journal.close()
        assert await left_behind(path) == [0, 1, 7]


@pytest.mark.parametrize("line", [b"\x00\x00", b"[]", b'"x"', b'{"topic":"t"}', b'{"gone":[]}', b'{"number":1,"x":2}'])
async def test_a_damaged_line_stops_the_start_and_touches_nothing(path: Path, line: bytes) -> None:
    """The error names file, line and fix; the file stays as it is, so that nothing is lost."""
    journal = FileJournal(path)
    await journal.append(waiting_message(1))
    await journal.close()
    damaged = line + b"\n" + path.read_bytes()
    path.write_bytes(damaged)
    bus = Bus()
    with pytest.raises(JournalDamagedError, match=r"waiting\.jsonl.* line 1 .*move the file away"):
        await guarded(bus, spill=FileJournal(path)).start()
    assert path.read_bytes() == damaged
    assert bus.life == ["start", "stop"]
    path.write_bytes(damaged.partition(b"\n")[2])
    assert numbers_of(await load_again(path)) == [1]


async def test_two_publishers_cannot_share_a_journal(path: Path) -> None:
    """The second one is told so; after the first has stopped it may have it."""
    first, second = FileJournal(path), FileJournal(path)
    await first.load()
    with pytest.raises(JournalInUseError, match="in use by another process"):
        await second.load()
    await first.close()
    assert await second.load() == []
    await second.close()


async def test_a_close_waits_for_the_writes_before_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is never closed under a write: what is asked for before a close, during it and after it is in the file."""
    begun, closed, write = threading.Semaphore(0), threading.Event(), os.write

    def slow(handle: int, content: bytes) -> int:
        begun.release()
        closed.wait(0.2)  # as long as a close may take that does not wait
        return write(handle, content)

    monkeypatch.setattr(os, "write", slow)
    journal = FileJournal(path)
    first = asyncio.create_task(journal.append(waiting_message(0)))
    await asyncio.to_thread(begun.acquire)
    second = asyncio.create_task(journal.append(waiting_message(1)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(journal.close())
    closing.add_done_callback(lambda _: closed.set())
    await first
    await asyncio.to_thread(begun.acquire)
    third = asyncio.create_task(journal.append(waiting_message(2)))
    await asyncio.gather(second, closing, third)
    await journal.append(waiting_message(3))
    assert numbers_of(await load_again(path)) == [0, 1, 2, 3]  # and nobody holds its lock


async def test_a_full_disk_is_survived(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written waits in memory; no half line stays, and the next write brings everything."""
    bus = Bus()
    publisher = guarded(bus, spill=FileJournal(path))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        with pytest.raises(KafkaError):
            await publisher.publish("t", envelope(number), "k")
    write = os.write
    monkeypatch.setattr(os, "write", _Full(write))
    await publisher.publish("t", envelope(2), "k")
    assert publisher.get_fallback_queue_size() == 3
    assert await left_behind(path) == [0, 1]
    monkeypatch.setattr(os, "write", write)
    await publisher.publish("t", envelope(3), "k")
    assert await left_behind(path) == [0, 1, 2, 3]
    bus.down = None
    await publisher._process_queued_messages()
    await publisher.stop()
    assert [number for _, number in bus.arrived] == [0, 1, 2, 3]


class _Full:
    """A disk with room for ten bytes."""

    def __init__(self, write: Any) -> None:
        self._write = write
        self._room = 10

    def __call__(self, handle: int, content: bytes) -> int:
        if self._room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written: int = self._write(handle, bytes(content)[: self._room])
        self._room -= written
        return written


async def test_a_spilled_file_is_read_too(path: Path) -> None:
    """Who goes from a spill at the stop to a journal keeps what was spilled."""
    await FileSpill(path).save([waiting_message(0), waiting_message(1)])
    assert numbers_of(await load_again(path)) == [0, 1]


def test_entries_are_lines_of_json(path: Path) -> None:
    """A person can read the file."""
    journal = FileJournal(path)

    async def write() -> None:
        await journal.append(waiting_message(5))
        await journal.close()

    asyncio.run(write())
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["envelope"]["data"] == {"n": 5}
