"""Ends a consumer at SIGTERM or SIGINT. For processes that do nothing else; web servers have signal handlers of their own."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

__all__ = ["run_until_signal", "stop_on_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Runs(Protocol):
    """A part with a life."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


@contextmanager
def stop_on_signals(ask: Callable[[], None], signals: Sequence[signal.Signals] = _SIGNALS) -> Iterator[None]:
    """Call ``ask`` when one of the signals comes, inside the block; afterwards they have their defaults again.

    Args:
        ask: Sets an event, say; called in the event loop.
        signals: Which.
    """
    loop = asyncio.get_running_loop()
    for each in signals:
        loop.add_signal_handler(each, ask)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)


async def run_until_signal(part: Runs, signals: Sequence[signal.Signals] = _SIGNALS) -> None:
    """Start ``part``, wait for a signal, and stop it.

    Args:
        part: A consumer, or anything else with ``start`` and ``stop``.
        signals: What ends it.

    Raises:
        Exception: Whatever ``start`` raises.
    """
    asked = asyncio.Event()
    with stop_on_signals(asked.set, signals):
        await part.start()
        try:
            await asked.wait()  # no limit: that is the life of the process
        finally:
            await part.stop()
