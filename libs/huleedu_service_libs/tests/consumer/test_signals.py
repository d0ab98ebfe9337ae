"""Signals that end a consumer: a process of its own that gets SIGTERM, and signal handlers that are given back."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from huleedu_service_libs.kafka.consumer import run_until_signal, stop_on_signals
from huleedu_service_libs.testing.devstack.servers import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from .conftest import Committed, Send, numbered

EVENTS = 60


@pytest.mark.integration
@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT])
async def test_a_process_that_is_told_to_end_finishes_what_it_has_begun(
    real_kafka: KafkaServer, kafka_topic: TopicFactory, send: Send, committed: Committed, which: signal.Signals
) -> None:
    """Handlers that run are finished, what they did is committed, nothing else begins, and the exit code is 0."""
    topic, group = kafka_topic("numbers"), f"signalled-{which.name}"
    await send(*[numbered(topic, n, f"key-{n}") for n in range(EVENTS)])
    program = Path(__file__).with_name("signalled_consumer.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(program), real_kafka.address, topic, group, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while "handled" not in "".join(lines[-1:]):
            lines.append((await process.stdout.readline()).decode())
        process.send_signal(which)
        rest, _ = await process.communicate()
    lines += rest.decode().splitlines(keepends=True)
    assert process.returncode == 0
    assert lines[-1] == "stopped\n"
    begun = {line.split()[1] for line in lines if line.startswith("begun")}
    handled = {line.split()[1] for line in lines if line.startswith("handled")}
    assert begun == handled
    assert 0 < len(handled) < EVENTS
    assert await committed(group, topic) == {0: len(handled)}


class Part:
    """Remembers its life."""

    def __init__(self) -> None:
        self.life: list[str] = []

    async def start(self) -> None:
        """Begin."""
        self.life.append("started")
        signal.raise_signal(signal.SIGTERM)

    async def stop(self) -> None:
        """End."""
        self.life.append("stopped")


async def test_a_signal_while_it_starts_is_not_lost() -> None:
    """Told to end before the start has returned, it is stopped all the same, and the handlers are the defaults again."""
    part, before = Part(), signal.getsignal(signal.SIGTERM)
    async with asyncio.timeout(10):
        await run_until_signal(part)
    assert part.life == ["started", "stopped"]
    assert signal.getsignal(signal.SIGTERM) == before


async def test_whoever_has_more_to_do_asks_for_the_signal() -> None:
    """Inside the block the callback is called, in the loop."""
    asked = asyncio.Event()
    with stop_on_signals(asked.set, [signal.SIGUSR1]):
        signal.raise_signal(signal.SIGUSR1)
        async with asyncio.timeout(10):
            await asked.wait()
