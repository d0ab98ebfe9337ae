"""The example as its tests look at it: its modules, its services, what their containers are made with, and the whole behind a proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from dishka import AsyncContainer

from essay_pipeline.demo.processes import PipelineProcesses, Servers
from essay_pipeline.demo.service import Log
from essay_pipeline.intake import di as intake_di
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.notify import di as notify_di
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.settings import PipelineSettings
from essay_pipeline.spellcheck import di as spellcheck_di
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import Kind, RedisServer

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = "examples/essay_pipeline/"
SOURCES = sorted((ROOT / EXAMPLE / "src/essay_pipeline").rglob("*.py"))
COLUMNS = "id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at, published_at, retry_count, last_error"
"""Of the outbox, in the words of the rule."""

Make = tuple[ModuleType, type[PipelineSettings]]

SERVICES: dict[str, Make] = {
    "intake": (intake_di, IntakeSettings),
    "spellcheck": (spellcheck_di, SpellcheckSettings),
    "notify": (notify_di, NotifySettings),
}


def settings_of(name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch, **more: Any) -> PipelineSettings:
    """A service's settings, with topics of its own."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    values: dict[str, Any] = {
        "REDIS_URL": servers.redis.address,
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka.address,
        "KAFKA_IDEMPOTENT_PRODUCER": servers.kafka.supports_idempotent_producer,
        "KAFKA_NAMESPACE": f"rules-{uuid4().hex[:8]}.",
    }
    return SERVICES[name][1](**values, **more)


def container_of(name: str, settings: PipelineSettings) -> AsyncContainer:
    """A service's container."""
    container: AsyncContainer = SERVICES[name][0].make_container(settings)
    return container


@asynccontextmanager
async def behind_a_proxy(servers: Servers, folder: Path) -> AsyncIterator[tuple[PipelineProcesses, FaultProxy]]:
    """The three services as processes, and the proxy through which they reach Redis; their logs are kept in ``folder``."""
    async with FaultProxy(servers.redis.address) as proxy:
        redis = RedisServer(name="redis", kind=Kind.LOCAL, address=proxy.url, label="behind a proxy")
        pipeline = PipelineProcesses(
            servers=Servers(postgres=servers.postgres, redis=redis, kafka=servers.kafka),
            make_log=lambda name: Log(folder / f"{name}.log"),
        )
        try:
            await asyncio.to_thread(pipeline.start)
            yield pipeline, proxy
        finally:
            await asyncio.to_thread(pipeline.stop)
