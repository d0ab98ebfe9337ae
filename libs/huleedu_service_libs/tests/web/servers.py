"""Applications behind the servers that people use, in this process, and clients that do as they like."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from hypercorn.asyncio import serve
from hypercorn.config import Config

from huleedu_service_libs.testing.devstack.local import free_ports

LIMIT_S = 20.0
BeforeStop = Callable[[], Awaitable[object]]
SERVERS = ("uvicorn", "hypercorn")


@asynccontextmanager
async def served(app: Any, server: str, before_stop: BeforeStop | None = None) -> AsyncIterator[int]:
    """Run ``app`` on a port of the loopback interface; ``before_stop`` comes before the server is told to end."""
    (port,) = free_ports(1)
    stop = asyncio.Event()
    task = asyncio.create_task(_run(app, server, port, stop))
    try:
        await _reachable(port, task)
        yield port
    finally:
        if before_stop is not None:
            await before_stop()
        stop.set()
        async with asyncio.timeout(LIMIT_S):
            await task


async def _run(app: Any, server: str, port: int, stop: asyncio.Event) -> None:
    if server == "hypercorn":
        config = Config()
        config.bind, config.graceful_timeout = [f"127.0.0.1:{port}"], 2.0
        await serve(app, config, shutdown_trigger=stop.wait)
        return
    running = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, timeout_graceful_shutdown=2)
    )
    task = asyncio.create_task(running._serve())  # without its signal handlers: they are the process's
    await stop.wait()
    running.should_exit = True
    await task


async def _reachable(port: int, task: "asyncio.Task[None]") -> None:
    async with asyncio.timeout(LIMIT_S):
        while True:
            assert not task.done(), task
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return


async def say(port: int, text: str, *, until: bytes | None = None) -> bytes:
    """Send ``text`` as it is, and read until the server closes, or ``until`` has come; then leave without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        writer.write(text.encode("latin-1"))
        async with asyncio.timeout(LIMIT_S):
            while until is None or until not in got:
                more = await reader.read(65_536)
                if not more:
                    break
                got += more
    finally:
        writer.transport.abort()
    return got
