"""How services start, refuse to start, and stop."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.display import PlainDisplay
from essay_pipeline.demo.driver import Driver, Plan
from essay_pipeline.demo.oracle import find_faults
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import Log

pytestmark = pytest.mark.integration

STOP_LIMIT_S = 15.0
START_LIMIT_S = 60.0
CLOSED_BY_THE_SERVER = {1001, 1012}


def events_of(log: Log) -> list[str]:
    """Names of the logged events, in order."""
    return [json.loads(line)["event"] for line in log.text().splitlines() if line.startswith("{")]


def run_service(name: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to end by itself."""
    return subprocess.run(  # noqa: S603  # ourselves
        [sys.executable, "-m", f"essay_pipeline.{name}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=START_LIMIT_S,
        check=False,
    )


async def test_sigterm_stops_gracefully(servers: Servers, tmp_path: Path) -> None:
    """On SIGTERM every service closes its connections, stops consumer and relay, and exits with code 0 in time."""
    pipeline = PipelineProcesses(servers=servers, make_log=lambda name: Log(tmp_path / f"{name}.log"))
    try:
        await asyncio.to_thread(pipeline.start)
        logs = pipeline.logs
        async with User.connected(pipeline.notify_url) as user, httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(
                f"{pipeline.intake_url}/v1/essays",
                json={"title": "t", "language": "en", "text": "This text has tow words that are real."},
                headers={"X-User-Token": user.token},
            )
            await user.wait_for("essay.checked", answer.json()["essay_id"])
            url = f"{pipeline.notify_url.replace('http', 'ws', 1)}/ws?token={user.token}"
            async with connect(url, proxy=None) as socket:
                await socket.recv()
                began = time.monotonic()
                stopping = asyncio.create_task(asyncio.to_thread(pipeline.stop))
                with pytest.raises(ConnectionClosed) as caught:
                    await asyncio.wait_for(socket.recv(), STOP_LIMIT_S)
                codes = await stopping
    finally:
        pipeline.stop()

    assert codes == {"intake": 0, "spellcheck": 0, "notify": 0}
    assert time.monotonic() - began < STOP_LIMIT_S
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code in CLOSED_BY_THE_SERVER
    assert events_of(logs["notify"])[-1] == events_of(logs["intake"])[-1] == "service_stopped"
    stops = [event for event in events_of(logs["spellcheck"]) if event.endswith(("_stopped", " stopped"))]
    told = events_of(logs["spellcheck"])
    assert told.index("drain_begins") < told.index("consumer_stopped") < told.index("drain_over")
    assert stops.index("consumer_stopped") < stops.index("outbox_relay_stopped") < stops.index("kafka_bus_stopped")
    assert stops[-1] == "service_stopped"


async def test_a_deployment_under_load_loses_nothing(servers: Servers) -> None:
    """While essays flow, *spellcheck* is replaced by a new process: each essay is still checked exactly once."""
    pipeline = PipelineProcesses(servers=servers)
    plan = Plan(essays=250, users=6, rollbacks=5, replays=10)
    try:
        await asyncio.to_thread(pipeline.start)
        driver = Driver(pipeline, plan, PlainDisplay())
        running = asyncio.create_task(driver.run())
        code = await asyncio.to_thread(pipeline.replace, "spellcheck")
        checked_by_then = driver.counts.checked
        outcome = await running
    finally:
        await asyncio.to_thread(pipeline.stop)

    assert code == 0
    assert checked_by_then > 0
    assert find_faults(outcome.evidence) == []


def test_a_service_without_the_secret_says_so() -> None:
    """Without the shared secret a service ends at once and names the variable."""
    ended = run_service("intake", {"HULEEDU_INTERNAL_API_KEY": ""})

    assert ended.returncode == 1
    assert "HULEEDU_INTERNAL_API_KEY" in ended.stderr


@pytest.mark.parametrize(
    ("name", "dead"),
    [("notify", "KAFKA_BOOTSTRAP_SERVERS"), ("notify", "REDIS_URL"), ("intake", "DATABASE_URL")],
)
def test_a_service_with_a_dead_server_ends(servers: Servers, name: str, dead: str) -> None:
    """When a server cannot be reached the service ends within bounded time, not with code 0, and logs the cause."""
    nowhere = {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "DATABASE_URL": "postgresql+asyncpg://nobody:hush@127.0.0.1:1/none",
    }
    settings = {"KAFKA_BOOTSTRAP_SERVERS": servers.kafka.address, "REDIS_URL": servers.redis.address, "PORT": "0"}
    settings[dead] = nowhere[dead]
    environment = {f"{name.upper()}_{key}": value for key, value in settings.items()}
    ended = run_service(name, {**environment, "HULEEDU_INTERNAL_API_KEY": "secret"})
    output = ended.stdout + ended.stderr

    assert ended.returncode not in {0, 70}
    assert "127.0.0.1" in output
    assert "hush" not in output
