"""The how-to page on health is as true as the code: its snippets run, and its table is what is served."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.health.answers import ENDPOINTS
from huleedu_service_libs.health.drain import DrainConfig
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus
from tests.snippets import names_of, snippets_of

PAGE = Path(__file__).resolve().parent.parent / "docs/how-to/health-endpoints.md"
TEXT = PAGE.read_text(encoding="utf-8")


class Part:
    """A relay and a consumer in one."""

    is_running = False

    async def start(self) -> None:
        """It runs."""
        self.is_running = True

    async def stop(self) -> None:
        """It has ended."""
        self.is_running = False

    def status(self) -> ConsumerStatus:
        """How it is."""
        return ConsumerStatus(running=self.is_running)


class Checker:
    """A database that is away."""

    async def get_health_summary(self) -> dict[str, Any]:
        """That."""
        return {"status": "unhealthy", "error": "ConnectionRefusedError: nobody listens"}

    async def check_connection_pool_health(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {"warnings": []}


@pytest.fixture(name="page")
def _page() -> dict[str, Any]:
    """What the snippets define; no server is there."""
    return names_of(
        PAGE,
        relay=Part(),
        consumer=Part(),
        checker=Checker(),
        engine=create_async_engine("postgresql+asyncpg://nobody:hunter2@127.0.0.1:1/none"),
        redis="redis://:hunter2@127.0.0.1:1/0",
        bus=SimpleNamespace(bootstrap_servers="127.0.0.1:1"),
        free_bytes=lambda: 5,
        told_to_stop=asyncio.Event(),
    )


async def test_the_page_as_a_service(page: dict[str, Any]) -> None:
    """Without any server the service is alive, started, ready and degraded, and says so without a password."""
    app = page["app"]
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http,
    ):
        answers = {name: await http.get(f"/healthz/{name}") for name in ("live", "startup", "ready", "details")}
        short = await http.get("/healthz")

    assert {name: (answer.status_code, answer.json()["status"]) for name, answer in answers.items()} == {
        "live": (200, "pass"),
        "startup": (200, "pass"),
        "ready": (200, "warn"),
        "details": (200, "warn"),
    }
    assert short.json()["status"] == "degraded"
    shown = json.loads(snippets_of(PAGE, "json")[0])
    assert shown.keys() == short.json().keys()
    assert shown["checks"].keys() == short.json()["checks"].keys()
    assert short.json()["checks"]["database"].startswith(shown["checks"]["database"].partition("...")[0])
    assert "hunter2" not in short.text + answers["details"].text


async def test_the_other_snippets(page: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A probe of one's own, an impact, and the drain do what the page says."""
    finding = await page["disk"].look()
    assert "less than 1 GB" in finding.cause
    assert page["replica_only"].name == "local_cache"
    patient = page["patient"]
    patient.drain.config = DrainConfig(notice_s=0, limit_s=1)
    page["told_to_stop"].set()
    await asyncio.wait_for(page["until_drained"](), 10)
    assert capsys.readouterr().out.endswith("\n0 requests were cut off\n")


def test_the_table_is_what_is_served() -> None:
    """Each endpoint that is served is in the table, and no other."""
    named = set(re.findall(r"`(/healthz[a-z/]*)`", "".join(re.findall(r"^\| `.*?\|", TEXT, flags=re.MULTILINE))))
    assert named == {f"/healthz{endpoint}" for endpoint in ENDPOINTS}


def test_the_orchestrator_s_settings_fit() -> None:
    """The probes ask paths that exist, and notice and limit fit into the time that the orchestrator grants."""
    settings = yaml.safe_load(snippets_of(PAGE, "yaml")[0])
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert settings[name]["httpGet"]["path"].removeprefix("/healthz") in ENDPOINTS
    ready, drain = settings["readinessProbe"], DrainConfig()
    assert ready["periodSeconds"] * ready["failureThreshold"] <= drain.notice_s
    assert drain.notice_s + drain.limit_s < settings["terminationGracePeriodSeconds"]
