"""What the children of the tests do; loaded by path."""

import asyncio
import os
import signal
from pathlib import Path

from huleedu_service_libs.testing.chaos.child import crash_points, ready


class Store:
    """A port with one method."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    async def save(self, number: int) -> None:
        """Append the number."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{number}\n")


async def count(path: str, upto: int) -> None:
    """Save the numbers below ``upto``, with crash points around the store and between the lines."""
    points = crash_points()
    points.around(Store, "save", before="before save", during="mid-save", after="after save")
    store = Store(path)
    ready()
    for number in range(upto):
        points.reached("between")
        await store.save(number)


async def wait_for_sigterm(path: str) -> None:
    """Run until SIGTERM, then say so."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    ready()
    await asked.wait()
    _write(path, "drained")


def fail() -> None:
    """Fail with a text."""
    raise RuntimeError("no luck today")


def show_variable(path: str, variable: str) -> None:
    """Write down a variable of the environment."""
    _write(path, os.environ[variable])


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
