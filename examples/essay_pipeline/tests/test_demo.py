"""The demo as a person starts it: what it verifies, which code it ends with, and that it leaves nothing behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from essay_pipeline.demo import __main__ as demo
from essay_pipeline.demo.display import PlainDisplay
from essay_pipeline.demo.driver import Driver, Plan
from essay_pipeline.demo.leftovers import remove_databases, remove_keys, remove_topics_and_groups
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from huleedu_service_libs.testing.devstack import KafkaServer, Kind, PostgresServer, RedisServer

WHOLE_DEMO_S = 100.0
ADDRESSES = ("HULEEDU_TEST_POSTGRES_URL", "HULEEDU_TEST_REDIS_URL", "HULEEDU_TEST_KAFKA_BOOTSTRAP")


def demo_process(*arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """The demo as a person starts it, apart from this terminal."""
    return subprocess.Popen(  # noqa: S603  # ourselves
        [sys.executable, "-m", "essay_pipeline.demo", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def addresses(servers: Servers) -> dict[str, str]:
    """Variables that make the demo use the session's servers, unless these are too special to be named by address."""
    if not servers.kafka.supports_idempotent_producer:
        return {}
    return {
        "HULEEDU_TEST_POSTGRES_URL": servers.postgres.address,
        "HULEEDU_TEST_REDIS_URL": servers.redis.address,
        "HULEEDU_TEST_KAFKA_BOOTSTRAP": servers.kafka.address,
    }


@pytest.mark.integration
def test_a_small_demo_verifies_itself(servers: Servers) -> None:
    """With twelve essays it exits with 0 and its summary counts essays, rollbacks and duplicates."""
    # A proxy, as companies prescribe one, is not for this machine's own addresses.
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), "http://127.0.0.1:1")
    environment = {**addresses(servers), **proxy, "NO_PROXY": "", "no_proxy": ""}
    with demo_process("--essays", "12", "--users", "3", environment=environment) as process:
        output, _ = process.communicate(timeout=WHOLE_DEMO_S)

    assert process.returncode == 0, output
    assert "12 essays accepted, each checked exactly once" in output
    assert "1 transaction rolled back" in output
    assert "skipped: nothing" in output or not servers.kafka.supports_idempotent_producer
    assert "24 notifications to 3 users" in output
    assert re.search(r"throughput [\d.]+ essays/s; from commit to browser p50 \d+ ms, p99 \d+ ms", output)


@pytest.mark.parametrize("arguments", [("--essays", "0"), ("--essays", "many"), ("--nonsense",)])
def test_wrong_arguments_are_refused(arguments: tuple[str, ...]) -> None:
    """Wrong arguments give code 2 before anything is started."""
    with demo_process(*arguments) as process:
        output, _ = process.communicate(timeout=30)

    assert process.returncode == 2
    assert "usage:" in output


def test_a_dead_server_is_named() -> None:
    """When a named server does not answer, the demo exits with 3 and one line says which."""
    with demo_process(environment={"HULEEDU_TEST_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none"}) as process:
        output, _ = process.communicate(timeout=WHOLE_DEMO_S)

    assert process.returncode == demo.CANNOT_RUN, output
    assert output.splitlines()[-1] == (
        "FAILED: PostgreSQL: HULEEDU_TEST_POSTGRES_URL names postgresql://***@127.0.0.1:1/none, "
        "where nothing answers: start it there, or unset the variable"
    )
    assert "postgres: ready" not in output


def pids_of_servers(pid: int) -> dict[str, int]:
    """The processes of the servers that the demo with that process id started, by program."""
    (folder,) = run_folders_of(pid)
    record = json.loads((folder / "warden.json").read_text(encoding="utf-8"))
    programs = {server: Path(f"/proc/{server}/exe").resolve().name for server, _ in record["servers"]}
    return {program: server for server, program in programs.items()}


@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the server in /proc")
@pytest.mark.parametrize(("program", "server"), [("postgres", "postgres"), ("java", "kafka")])
def test_a_server_that_dies_during_the_demo_is_named(program: str, server: str) -> None:
    """Soon after a server was killed the demo ends with code 3, and the last line says which."""
    lines: list[str] = []
    with demo_process("--essays", "2000", environment=dict.fromkeys(ADDRESSES, "")) as process:
        for line in iter(cast("Any", process.stdout).readline, ""):
            lines.append(line)
            if "stored" in line:
                break
        started = pids_of_servers(process.pid)
        victims = [pid for name, pid in started.items() if program in name]
        if not victims:
            process.kill()
            pytest.skip(f"{server} was not started from {program}: {sorted(started)}")
        os.kill(victims[0], signal.SIGKILL)
        began = time.monotonic()
        output, _ = process.communicate(timeout=WHOLE_DEMO_S)

    assert process.returncode == demo.CANNOT_RUN, output
    assert re.fullmatch(rf"FAILED: {server} \(127\.0\.0\.1:\d+\) ended", output.splitlines()[-1]), output
    assert "Traceback" not in output
    assert time.monotonic() - began < 20


async def keys_of(address: str, pattern: str) -> list[bytes]:
    """Keys in Redis."""
    async with Redis.from_url(address) as redis:
        return [key async for key in redis.scan_iter(match=pattern)]


async def groups_of(address: str) -> set[str]:
    """Consumer groups in Kafka."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        return {group for group, *_ in await admin.list_consumer_groups()}
    finally:
        await admin.close()


@pytest.mark.integration
async def test_nothing_is_left_on_somebody_elses_servers(real_kafka: object, servers: Servers) -> None:
    """Topics, groups, databases and keys of a run are gone from servers that were given by address."""
    given = Servers(
        postgres=PostgresServer(name="postgres", kind=Kind.ADDRESS, address=servers.postgres.address, label=""),
        redis=RedisServer(name="redis", kind=Kind.ADDRESS, address=servers.redis.address, label=""),
        kafka=KafkaServer(name="kafka", kind=Kind.ADDRESS, address=servers.kafka.address, label=""),
    )
    told: list[str] = []
    pipeline = PipelineProcesses(servers=given, progress=told.append)
    try:
        await asyncio.to_thread(pipeline.start)
        await Driver(pipeline, Plan(essays=3, users=1, rollbacks=1, replays=1), PlainDisplay()).run()
        assert await keys_of(servers.redis.address, f"{pipeline.namespace}*")
        assert set(pipeline.groups) <= await groups_of(servers.kafka.address)
        databases = list(pipeline.databases.values())
    finally:
        await asyncio.to_thread(pipeline.stop)

    assert await keys_of(servers.redis.address, f"{pipeline.namespace}*") == []
    assert not set(pipeline.groups) & await groups_of(servers.kafka.address)
    assert not [line for line in told if "left" in line]
    for database in databases:
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await asyncpg.connect(database)


def test_a_server_that_is_gone_does_not_hide_why_the_run_ended() -> None:
    """Clean-up that fails is told and raises nothing."""
    told: list[str] = []
    gone = PostgresServer(name="postgres", kind=Kind.ADDRESS, address="postgresql://me@127.0.0.1:1/db", label="")
    remove_databases(gone, ["postgresql://me@127.0.0.1:1/one"], told.append)
    kafka = KafkaServer(name="kafka", kind=Kind.ADDRESS, address="127.0.0.1:1", label="")
    remove_topics_and_groups(kafka, ["topic"], ["group"], told.append)
    remove_keys(RedisServer(name="redis", kind=Kind.ADDRESS, address="redis://127.0.0.1:1", label=""), "x", told.append)
    assert [line.partition(":")[0] for line in told] == ["postgres", "kafka", "kafka", "redis"]


def run_folders_of(pid: int) -> list[Path]:
    """The folders in which the servers of that process live."""
    owners = Path(tempfile.gettempdir()).glob("huleedu-devstack-*/owner.json")
    return [file.parent for file in owners if json.loads(file.read_text(encoding="utf-8"))[0] == pid]


async def gone(url: str) -> bool:
    """Whether nobody listens there."""
    async with httpx.AsyncClient(trust_env=False) as http:
        try:
            await http.get(url)
        except httpx.ConnectError:
            return True
        except httpx.TransportError:  # somebody who is just dying
            return False
    return False


@pytest.mark.integration
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 0), (signal.SIGKILL, -9)])
async def test_nothing_is_left_after_the_web_demo(number: int, code: int, servers: Servers) -> None:
    """The page stays open until the demo is told to stop, or killed: then services, servers and files are gone."""
    # The killed one starts servers of its own, as nobody else can remove what it made.
    environment = addresses(servers) if number != signal.SIGKILL else {}
    with demo_process("--web", "--essays", "1", environment=environment) as process:
        output = iter(cast("Any", process.stdout).readline, "")
        lines: list[str] = []
        for line in output:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        urls = re.findall(r"http://127\.0\.0\.1:\d+", "".join(lines))
        assert len(set(urls)) == 3, "".join(lines)
        assert not await gone(urls[-1])
        folders = run_folders_of(process.pid)
        os.kill(process.pid, number)
        process.communicate(timeout=40)

    assert process.returncode == code
    assert folders
    deadline = time.monotonic() + 30
    while any(folder.exists() for folder in folders) or not all([await gone(url) for url in urls]):
        assert time.monotonic() < deadline, f"still there: {folders} or {urls}"
        await asyncio.sleep(0.1)
