"""A publisher on a journal: what outages, stops, restarts and SIGKILL leave of its messages."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaError
from hypothesis import given, settings

from huleedu_service_libs.kafka import FallbackMessageHandler, ResilientKafkaPublisher
from huleedu_service_libs.kafka.errors import (
    KafkaBusStoppedError,
)
from huleedu_service_libs.kafka.journal import FileJournal

from ..resilience.times import Time
from .journals import left_behind, load_again, numbers_of, waiting_message
from .publishers import Bus, Step, course_of, courses, envelope, guarded


async def test_what_is_kept_before_the_first_load_takes_nobodys_place(path: Path) -> None:
    """A publisher that was not started yet journals behind what an earlier life has left, and behind its half line."""
    earlier = FileJournal(path)
    await earlier.append(waiting_message(0))
    await earlier.close()
    path.write_bytes(path.read_bytes() + b'{"number": 1, "to')
    journal, early = FileJournal(path), waiting_message(1)
    await journal.append(early)
    loaded = await journal.load()
    assert numbers_of(loaded) == [0, 1]
    assert loaded[1] is early  # who keeps it in memory can have it removed
    await journal.close()


async def test_what_is_kept_during_a_load_stays_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is appended while the file is read is not forgotten when it is written anew."""
    journal, reading, go_on, read = FileJournal(path), threading.Event(), threading.Event(), Path.read_bytes
    await journal.append(waiting_message(0))

    def slow(self: Path) -> bytes:
        content = read(self)
        reading.set()
        go_on.wait(30)
        return content

    monkeypatch.setattr(Path, "read_bytes", slow)
    loading = asyncio.create_task(journal.load())
    await asyncio.to_thread(reading.wait)
    appending = asyncio.create_task(journal.append(waiting_message(1)))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(loading, appending)
    await journal.close()
    assert numbers_of(await load_again(path)) == [0, 1]


async def test_queued_is_journaled_and_sent_is_not(path: Path) -> None:
    """When `publish` has returned the file has the message; when the broker has it, the file has not."""
    bus = Bus()
    publisher = guarded(bus, spill=FileJournal(path))
    await publisher.start()
    bus.down = KafkaConnectionError("gone")
    for number in range(4):
        with suppress(KafkaError):
            await publisher.publish("t", envelope(number), "k")
        assert await left_behind(path) == list(range(number + 1))
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


@given(steps=courses("crash"))
@settings(max_examples=60, deadline=None)
def test_any_course_of_outages_restarts_and_crashes(steps: list[Step]) -> None:
    """Every message arrives, each key in its order, and nothing twice: here no crash falls between arrival and note."""
    bus, journals = Bus(), list[FileJournal]()
    with TemporaryDirectory() as folder:
        path = Path(folder) / "journal"

        async def make(time: Time) -> ResilientKafkaPublisher:
            journals.append(FileJournal(path, fsync=False))
            publisher = guarded(bus, time, spill=journals[-1])
            await publisher.start()
            return publisher

        async def crash(publisher: ResilientKafkaPublisher) -> None:
            await publisher._recovery.stop(5)
            await asyncio.to_thread(journals[-1]._file._close_file)
            await asyncio.to_thread(_let_go, journals[-1])

        asyncio.run(course_of(steps, bus, make, crash=crash))
        assert not path.exists()


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
