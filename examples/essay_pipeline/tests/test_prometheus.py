"""The shipped dashboards and alerts on a real Prometheus that scrapes the running services."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack.warden import identity

from .example import behind_a_proxy
from .prometheus import RealPrometheus, installed, panels

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(installed() is None, reason="prometheus is not installed (Debian: prometheus)"),
]

ESSAYS = 30
LIMIT_S = 90.0

QUIET = {
    "breakers: Changes of state": "no breaker opens",
    "breakers: Messages that wait for Kafka": "Kafka serves all the time",
    "breakers: Producers replaced": "as above",
    "breakers: Reports that a metric did not take": "none fails",
    "consumers: Runs that failed": "no handler fails",
    "consumers: Between consumer and Kafka": "Kafka serves all the time",
    "consumers: Processed without protection": "until Redis is away",
    "consumers: The memory of processed events": "the example starts no StoreWatch",
    "consumers: What has happened to it": "as above",
    "consumers: Inbox": "the example uses none",
    "database: Failed statements": "none fails",
    "database: Slow statements": "none takes a second",
    "database: Errors of the monitoring itself": "there are none",
    "outbox: Failed attempts": "Kafka serves all the time",
    "outbox: Failed attempts (1)": "as above",
    "outbox: Errors of the relay": "until its wake-ups do not come",
    "outbox: Held back by a writer": "the example's outbox is not in strict order",
    "outbox: Purged and redriven": "nothing is old enough",
    "outbox: Purged and redriven (1)": "nobody redrives",
    "services: Errors that were survived": "Kafka serves all the time",
    "services: Errors that were survived (1)": "until Redis is away",
    "services: Errors that were survived (2)": "as above",
}
"""Panels that may show nothing of a healthy example, each with the reason."""

OF_A_BUSY_MACHINE = {"EventLoopLate", "RequestsAreSlow", "TransactionsStayOpen", "StatementsAreSlow"}

_PARK = (
    "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at,"
    " retry_count, last_error) SELECT gen_random_uuid(), 'a', 'essay', event_type, event_data, topic, now(), 5, 'poison'"
    " FROM event_outbox LIMIT 1"
)

_KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from examples.essay_pipeline.tests.prometheus import RealPrometheus
targets = dict.fromkeys(["intake", "spellcheck", "notify"], "127.0.0.1:1")
with RealPrometheus(Path(sys.argv[1]), targets) as prometheus:
    print(prometheus.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The running pipeline, what watches it, the way to its Redis, and a user whose page is open."""

    pipeline: PipelineProcesses
    prometheus: RealPrometheus
    redis: FaultProxy
    user: User

    async def send(self, essays: int) -> None:
        """Submit so many essays, a tenth of a second apart."""
        async with httpx.AsyncClient(base_url=self.pipeline.intake_url, timeout=20, trust_env=False) as intake:
            for number in range(essays):
                text = f"Yesterday I recieved letter number {number} from my freind in a small village by the sea."
                body = {"title": "A letter", "language": "en", "text": text}
                answer = await intake.post("/v1/essays", json=body, headers={"X-User-Token": self.user.token})
                answer.raise_for_status()
                await asyncio.sleep(0.1)

    async def firing(self, *wanted: tuple[str, str]) -> None:
        """Wait until these alerts fire."""
        fires = self.prometheus.firing
        await asyncio.to_thread(self.prometheus.until, lambda: set(wanted) <= fires(), LIMIT_S, f"{wanted} fire")

    async def over(self, *wanted: tuple[str, str]) -> None:
        """Wait until none of these fires."""
        fires = self.prometheus.firing
        await asyncio.to_thread(self.prometheus.until, lambda: not set(wanted) & fires(), LIMIT_S, f"{wanted} are over")


@pytest.fixture(name="watched")
async def _watched(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    """The pipeline with breakers, its Redis behind a proxy."""
    for service in ("INTAKE", "SPELLCHECK"):
        monkeypatch.setenv(f"{service}_CIRCUIT_BREAKER_ENABLED", "true")
    async with behind_a_proxy(servers, tmp_path) as (pipeline, proxy):
        targets = {name: service.url.removeprefix("http://") for name, service in pipeline.services.items()}
        async with User.connected(pipeline.notify_url) as user:
            with RealPrometheus(tmp_path, targets) as prometheus:
                yield Watched(pipeline=pipeline, prometheus=prometheus, redis=proxy, user=user)


@pytest.mark.timeout(300)
async def test_dashboards_and_alerts_see_what_happens(watched: Watched) -> None:
    """Every panel has data or a reason to have none; nothing fires without a fault; each fault fires its alerts.

    The faults: an event that is given up, Redis away while events arrive, a killed service. What is mended is over.
    """
    prometheus = watched.prometheus
    await watched.send(ESSAYS)

    def empty() -> set[str]:
        return {name for name, expression in panels().items() if not prometheus.query(expression)}

    await asyncio.to_thread(prometheus.until, lambda: empty() <= QUIET.keys(), 20, "every panel that has data shows it")
    assert {alert for alert, _ in prometheus.firing()} <= OF_A_BUSY_MACHINE

    database = await asyncpg.connect(watched.pipeline.databases["intake"])
    await database.execute(_PARK)
    await database.close()
    watched.redis.refuse()
    await watched.send(5)
    redis_is_away = [("ComponentFailed", job) for job in ("intake", "spellcheck", "notify")]
    unprotected = [("EventsProcessedUnprotected", job) for job in ("spellcheck", "notify")]
    await watched.firing(*unprotected)
    await watched.firing(("OutboxEventsParked", "intake"), *redis_is_away)

    watched.redis.heal()
    watched.pipeline.services["notify"].process.kill()
    await watched.firing(("ServiceUnreachable", "notify"))
    await watched.over(*redis_is_away[:2])

    rules = prometheus.rules()
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    assert len(rules) > 25


def test_prometheus_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """A run that is killed leaves no Prometheus behind."""
    command = [sys.executable, "-c", _KILLED_RUN, str(tmp_path)]
    root = Path(__file__).resolve().parents[3]
    killed = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own text
    pid = int(killed.stdout)
    deadline = time.monotonic() + LIMIT_S
    while (runs := identity(pid) is not None) and time.monotonic() < deadline:
        time.sleep(0.05)
    if runs:
        os.kill(pid, signal.SIGKILL)
    assert not runs
