"""Messages that wait survive a kill: the journal alone, under the publisher, and in a process that is killed."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from hypothesis import given, settings
from hypothesis import strategies as st

from huleedu_service_libs.kafka import FallbackMessageHandler, ResilientKafkaPublisher
from huleedu_service_libs.kafka import journal as journal_module
from huleedu_service_libs.kafka.errors import (
    JournalDamagedError,
    JournalInUseError,
    KafkaBusStoppedError,
    MessageHeldBackError,
)
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.journal import FileJournal
from huleedu_service_libs.kafka.spill import FileSpill
from huleedu_service_libs.outbox.spill import OutboxHandover

from ..outbox.doubles import Repository
from ..resilience.times import Time
from .test_resilient_publisher import Bus, envelope, guarded


def _message(number: int, key: str | None = "k") -> QueuedMessage[Any]:
    return QueuedMessage("t", envelope(number), key, datetime.now(UTC), headers={"h": "å"})


def _numbers(messages: list[QueuedMessage[Any]]) -> list[int]:
    return [message.envelope.data["n"] for message in messages]


@pytest.fixture(name="path")
def _path(tmp_path: Path) -> Path:
    return tmp_path / "waiting.jsonl"


async def _load(path: Path) -> list[QueuedMessage[Any]]:
    """What the next life finds."""
    journal = FileJournal(path)
    try:
        return await journal.load()
    finally:
        await journal.close()


async def _left(path: Path) -> list[int]:
    """What the next life would find, without touching it."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    return _numbers(await _load(copy))


async def test_what_was_appended_is_found_again(path: Path) -> None:
    """Messages come back whole and in order, without those that are gone; for its owner's eyes only."""
    journal = FileJournal(path)
    assert await journal.load() == []
    messages = [_message(number) for number in range(5)]
    for message in messages:
        await journal.append(message)
    await journal.remove(messages[1])
    await journal.remove(_message(9))  # one that it never had
    assert path.stat().st_mode & 0o077 == 0
    await journal.close()
    again = await _load(path)
    assert again == [messages[0], *messages[2:]]


async def test_an_empty_journal_leaves_no_file(path: Path) -> None:
    """When nothing waits any more, the file is empty at once and gone after the stop."""
    journal = FileJournal(path)
    message = _message(1)
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
    await asyncio.gather(*(journal.append(_message(number)) for number in range(1000)))
    await journal.close()
    assert syncs < 20
    assert _numbers(await _load(path)) == list(range(1000))


async def test_the_file_does_not_grow_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one message waits and thousands come and go, the file is written anew."""
    monkeypatch.setattr(journal_module, "MOST_DEAD", 50)
    journal = FileJournal(path, fsync=False)
    await journal.append(_message(0))
    for number in range(1, 400):
        message = _message(number)
        await journal.append(message)
        await journal.remove(message)
    assert len(path.read_bytes().splitlines()) <= 110
    assert await _left(path) == [0]
    await journal.close()


async def test_a_cancelled_append_is_written_all_the_same(path: Path) -> None:
    """The message still waits in memory, so the journal must have it; and the next one is not torn."""
    journal = FileJournal(path)
    task = asyncio.create_task(journal.append(_message(0)))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await journal.append(_message(1))
    await journal.close()
    assert _numbers(await _load(path)) == [0, 1]


async def test_half_a_line_at_the_end_is_nobodys_promise(path: Path) -> None:
    """A process that was killed while it wrote leaves half a line, which is left out."""
    journal = FileJournal(path)
    for number in range(3):
        await journal.append(_message(number))
    await journal.close()
    content = path.read_bytes()
    for cut in (1, 50, len(content) // 3 - 1):
        path.write_bytes(content[:-cut])
        journal = FileJournal(path)
        assert _numbers(await journal.load()) == [0, 1]
        await journal.append(_message(7))
        await journal.close()
        assert await _left(path) == [0, 1, 7]


@pytest.mark.parametrize("line", [b"\x00\x00", b"[]", b'"x"', b'{"topic":"t"}', b'{"gone":[]}', b'{"number":1,"x":2}'])
async def test_a_damaged_line_stops_the_start_and_touches_nothing(path: Path, line: bytes) -> None:
    """The error names file, line and fix; the file stays as it is, so that nothing is lost."""
    journal = FileJournal(path)
    await journal.append(_message(1))
    await journal.close()
    damaged = line + b"\n" + path.read_bytes()
    path.write_bytes(damaged)
    bus = Bus()
    with pytest.raises(JournalDamagedError, match=r"waiting\.jsonl.* line 1 .*move the file away"):
        await guarded(bus, spill=FileJournal(path)).start()
    assert path.read_bytes() == damaged
    assert bus.life == ["start", "stop"]
    path.write_bytes(damaged.partition(b"\n")[2])
    assert _numbers(await _load(path)) == [1]


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
    first = asyncio.create_task(journal.append(_message(0)))
    await asyncio.to_thread(begun.acquire)
    second = asyncio.create_task(journal.append(_message(1)))
    await asyncio.sleep(0)
    closing = asyncio.create_task(journal.close())
    closing.add_done_callback(lambda _: closed.set())
    await first
    await asyncio.to_thread(begun.acquire)
    third = asyncio.create_task(journal.append(_message(2)))
    await asyncio.gather(second, closing, third)
    await journal.append(_message(3))
    assert _numbers(await _load(path)) == [0, 1, 2, 3]  # and nobody holds its lock


async def test_what_is_kept_before_the_first_load_takes_nobodys_place(path: Path) -> None:
    """A publisher that was not started yet journals behind what an earlier life has left, and behind its half line."""
    earlier = FileJournal(path)
    await earlier.append(_message(0))
    await earlier.close()
    path.write_bytes(path.read_bytes() + b'{"number": 1, "to')
    journal, early = FileJournal(path), _message(1)
    await journal.append(early)
    loaded = await journal.load()
    assert _numbers(loaded) == [0, 1]
    assert loaded[1] is early  # who keeps it in memory can have it removed
    await journal.close()


async def test_what_is_kept_during_a_load_stays_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is appended while the file is read is not forgotten when it is written anew."""
    journal, reading, go_on, read = FileJournal(path), threading.Event(), threading.Event(), Path.read_bytes
    await journal.append(_message(0))

    def slow(self: Path) -> bytes:
        content = read(self)
        reading.set()
        go_on.wait(30)
        return content

    monkeypatch.setattr(Path, "read_bytes", slow)
    loading = asyncio.create_task(journal.load())
    await asyncio.to_thread(reading.wait)
    appending = asyncio.create_task(journal.append(_message(1)))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(loading, appending)
    await journal.close()
    assert _numbers(await _load(path)) == [0, 1]


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
    assert await _left(path) == [0, 1]
    monkeypatch.setattr(os, "write", write)
    await publisher.publish("t", envelope(3), "k")
    assert await _left(path) == [0, 1, 2, 3]
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
    await FileSpill(path).save([_message(0), _message(1)])
    assert _numbers(await _load(path)) == [0, 1]


async def test_queued_is_journaled_and_sent_is_not(path: Path) -> None:
    """When `publish` has returned the file has the message; when the broker has it, the file has not."""
    bus = Bus()
    publisher = guarded(bus, spill=FileJournal(path))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(4):
        with suppress(KafkaError):
            await publisher.publish("t", envelope(number), "k")
        assert await _left(path) == list(range(number + 1))
    bus.down = None
    await publisher._process_queued_messages()
    assert path.read_bytes() == b""
    await publisher.stop()
    await publisher.start()
    await publisher.stop()
    assert [number for _, number in bus.arrived] == [0, 1, 2, 3]
    assert not path.exists()


async def test_a_stop_without_a_broker_keeps_the_journal(path: Path) -> None:
    """Stopping, starting and stopping again loses and doubles nothing."""
    bus = Bus()
    publisher = guarded(bus, spill=FileJournal(path))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(2):
        with pytest.raises(KafkaError):
            await publisher.publish("t", envelope(number), "k")
    for _ in range(2):
        await publisher.stop()
        await publisher.start()
    await publisher.publish("t", envelope(2), "k")
    await publisher.stop()
    bus.down = None
    second = guarded(bus, spill=FileJournal(path))
    await second.start()
    await second.stop()
    assert [number for _, number in bus.arrived] == [0, 1, 2]


def _start(path: Path, what: str, output: Path) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("killed_publisher.py")
    with output.open("wb") as file:
        return subprocess.Popen(  # noqa: S603  # our own program
            [sys.executable, str(program), str(path), str(path.with_suffix(".arrived")), what], stdout=file
        )


def _kill_when(process: subprocess.Popen[bytes], file: Path, lines: int) -> None:
    """SIGKILL as soon as ``file`` has so many lines."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if file.exists() and file.read_bytes().count(b"\n") >= lines:
            break
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it was to be killed in the middle of its work"


def test_a_killed_process_loses_nothing_and_keeps_the_order(path: Path) -> None:
    """SIGKILL while it queues, SIGKILL while it drains: whatever `publish` returned for arrives, each key in order."""
    promised, started, arrived = (path.with_suffix(end) for end in (".promised", ".started", ".arrived"))
    _kill_when(_start(path, "publish", promised), promised, 200)
    lines = promised.read_text().rpartition("\n")[0].splitlines()
    promises = {tuple(map(int, line.split()[1:])) for line in lines if line.startswith("promised ")}
    assert len(promises) >= 150
    _kill_when(_start(path, "drain", started), arrived, 60)
    drained = _start(path, "drain", started)
    assert drained.wait(60) == 0
    orders: defaultdict[int, list[int]] = defaultdict(list)
    for line in arrived.read_text().splitlines():
        key, number = map(int, line.split())
        orders[key].append(number)
    got = {(key, number) for key, numbers in orders.items() for number in numbers}
    assert promises <= got, "a promised message is lost"
    for numbers in orders.values():
        assert list(dict.fromkeys(numbers)) == list(range(max(numbers) + 1))
        assert len(numbers) - len(set(numbers)) <= 1, "only the message in hand may come twice"
    assert not path.exists()


async def test_the_outbox_takes_over_and_keeps_the_order() -> None:
    """A message that cannot be sent is a row at once; later ones of its key follow it until the relay has sent them."""
    bus, repository = Bus(), Repository()
    publisher = guarded(bus, spill=OutboxHandover(repository))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(0), "k")
    await publisher.publish("t", envelope(1), "k")
    bus.down = None
    await publisher.publish("t", envelope(2), "k")
    with pytest.raises(MessageHeldBackError):
        await publisher.publish_confirmed("t", envelope(9), "k")
    await publisher.publish("t", envelope(3), "other")
    assert bus.arrived == [("other", 3)]
    assert publisher.get_fallback_queue_size() == 0
    assert [row.event_data["data"]["n"] for row in repository.rows.values()] == [0, 1, 2]
    for row in list(repository.rows):
        await repository.mark_event_published(row)
    await publisher.publish("t", envelope(4), "k")
    await publisher.stop()
    assert bus.arrived == [("other", 3), ("k", 4)]


async def test_the_outbox_is_remembered_by_the_next_life() -> None:
    """A new process must not overtake the rows that the one before has left; a parked row holds nobody up."""
    bus, repository = Bus(), Repository()
    await OutboxHandover(repository).take(_message(0))
    publisher = guarded(bus, spill=OutboxHandover(repository, max_retries=2))
    await publisher.start()
    await publisher.publish("t", envelope(1), "k")
    assert (bus.arrived, len(repository.rows)) == ([], 2)
    for row in list(repository.rows):
        for _ in range(2):
            await repository.increment_retry_count(row, "poison")
    await publisher.publish("t", envelope(2), "k")
    await publisher.stop()
    assert bus.arrived == [("k", 2)]


async def test_a_database_that_is_away_leaves_messages_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept and sent from there, unless their key waits in the outbox already: then `publish` raises."""
    bus, repository = Bus(), Repository()
    publisher = guarded(bus, spill=OutboxHandover(repository), threshold=9)
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(0), "in the outbox")

    async def away(*_arguments: Any, **_keywords: Any) -> Any:
        raise ConnectionRefusedError

    monkeypatch.setattr(repository, "add_event", away)
    monkeypatch.setattr(repository, "get_event_by_id", away)
    with pytest.raises(KafkaError):
        await publisher.publish("t", envelope(1), "in memory")
    assert publisher.get_fallback_queue_size() == 1
    with pytest.raises(ConnectionRefusedError):
        await publisher.publish("t", envelope(2), "in the outbox")
    bus.down = None
    await publisher.stop()
    assert bus.arrived == [("in memory", 1)]


def test_entries_are_lines_of_json(path: Path) -> None:
    """A person can read the file."""
    journal = FileJournal(path)

    async def write() -> None:
        await journal.append(_message(5))
        await journal.close()

    asyncio.run(write())
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["envelope"]["data"] == {"n": 5}


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.sampled_from("abc")),
        st.tuples(st.just("broker"), st.booleans()),
        st.tuples(st.just("time"), st.sampled_from([1, 10])),
        st.tuples(st.just("recover"), st.none()),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("crash"), st.none()),
    ),
    max_size=40,
)


@given(steps=_STEPS)
@settings(max_examples=60, deadline=None)
def test_any_course_of_outages_restarts_and_crashes(steps: list[tuple[str, Any]]) -> None:
    """Every message arrives, each key in its order, and nothing twice: here no crash falls between arrival and note."""
    with TemporaryDirectory() as folder:
        asyncio.run(_story(steps, Path(folder) / "journal"))


async def _story(steps: list[tuple[str, Any]], path: Path) -> None:
    time_, bus = Time(), Bus()
    publisher, journal = await _alive(bus, time_, path)
    published: dict[str, list[int]] = {key: [] for key in "abc"}
    for number, (step, value) in enumerate(steps):
        if step == "publish":
            published[value].append(number)
            with suppress(KafkaError):
                await publisher.publish("t", envelope(number), value)
        elif step == "broker":
            bus.down = None if value else KafkaConnectionError("gone")
        elif step == "time":
            time_.passes(value)
        elif step == "recover":
            await publisher._process_queued_messages()
        elif step == "restart":
            await publisher.stop()
            await publisher.start()
        else:
            await publisher._recovery.stop(5)
            await asyncio.to_thread(journal._file._close_file)
            await asyncio.to_thread(_let_go, journal)
            publisher, journal = await _alive(bus, time_, path)
    bus.down = None
    time_.passes(10)
    await publisher.stop()
    assert not path.exists()
    for key, numbers in published.items():
        assert [number for where, number in bus.arrived if where == key] == numbers


async def _alive(bus: Bus, time_: Time, path: Path) -> tuple[ResilientKafkaPublisher, FileJournal]:
    journal = FileJournal(path, fsync=False)
    publisher = guarded(bus, time_, spill=journal)
    await publisher.start()
    return publisher, journal


def _let_go(journal: FileJournal) -> None:
    """What the end of a process does to its lock."""
    if journal._file._lock is not None:
        journal._file._lock.close()


async def test_restarts_under_load_lose_nothing(path: Path) -> None:
    """While twenty tasks publish and the broker flaps, the publisher is stopped and started; each key arrives in order."""
    bus = Bus()
    handler = FallbackMessageHandler(max_queue_size=10_000)
    spill = FileJournal(path, fsync=False)
    publisher = guarded(bus, threshold=2, interval=0.01, fallback_handler=handler, spill=spill)
    await publisher.start()
    done = False

    async def write(key: str) -> None:
        for number in range(60):
            with suppress(KafkaError, KafkaBusStoppedError):
                await publisher.publish("t", envelope(number), key)
            await asyncio.sleep(0)

    async def disturb() -> None:
        while not done:
            bus.down = KafkaConnectionError("gone")
            await asyncio.sleep(0.005)
            await publisher.stop()
            await publisher.start()
            bus.down = None
            breaker = publisher.circuit_breaker
            assert breaker is not None
            breaker.reset()
            await asyncio.sleep(0.005)

    disturbing = asyncio.create_task(disturb())
    await asyncio.gather(*(write(f"key-{number}") for number in range(20)))
    done = True
    await disturbing
    await publisher.stop()
    assert publisher.get_fallback_queue_size() == 0
    arrived: defaultdict[str | None, list[int]] = defaultdict(list)
    for key, number in bus.arrived:
        arrived[key].append(number)
    for numbers in arrived.values():
        assert list(dict.fromkeys(numbers)) == list(range(60))
    assert len(arrived) == 20
