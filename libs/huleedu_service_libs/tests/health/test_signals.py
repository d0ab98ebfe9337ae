"""SIGTERM of a real server process: readiness first, then the requests in hand, then the end."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from huleedu_service_libs.health import ServiceHealth, drain_before_stop
from huleedu_service_libs.testing.devstack.local import free_ports

HERE = Path(__file__).parent


@pytest.fixture(name="server")
async def _server() -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """``uvicorn served:app`` as people start it, and its address."""
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", "served:app", "--host", "127.0.0.1", "--port", str(port), "--app-dir",
        str(HERE), "--log-level", "warning",
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(30):
            while True:
                try:
                    if (await http.get(f"{url}/healthz/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None
                await asyncio.sleep(0.05)
        yield url, process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("signals", [1, 2], ids=["once", "twice"])
async def test_sigterm_under_uvicorn(server: tuple[str, asyncio.subprocess.Process], signals: int) -> None:
    """The request in flight is answered and readiness is 503 meanwhile; a second signal does not wait."""
    url, process = server
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:
        in_flight = asyncio.create_task(http.get(f"{url}/lasting/1.0"))
        async with asyncio.timeout(20):
            while not (await http.get(f"{url}/begun")).json():
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while (ready := await http.get(f"{url}/healthz/ready")).status_code != 503:
                await asyncio.sleep(0.02)
        if signals == 2:
            process.send_signal(signal.SIGTERM)
        answer = await in_flight
        ended = await asyncio.wait_for(process.wait(), 20)

    assert "stopping" in ready.json()["output"]
    assert answer.json() == {"worked": 1.0}
    assert ended in {0, -signal.SIGTERM}  # uvicorn ends by the signal, after a graceful stop


async def test_a_handler_that_cannot_wait_is_refused() -> None:
    """Where the event loop handles the signal, the error says what to do instead."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, lambda: None)
    try:
        with pytest.raises(RuntimeError, match=r"await ServiceHealth\.stop_traffic"):
            drain_before_stop(ServiceHealth("svc"), signal.SIGUSR1)
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
    with pytest.raises(RuntimeError, match="SIGUSR2 has no handler that can wait"):
        drain_before_stop(ServiceHealth("svc"), signal.SIGUSR2)
