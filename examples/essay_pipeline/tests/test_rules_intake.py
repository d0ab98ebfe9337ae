"""What the applications do with a database, without a broker, and through the shared manager."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from essay_pipeline.demo.processes import Servers
from essay_pipeline.intake.app import create_app as create_intake
from essay_pipeline.intake.models import EssayRequest
from essay_pipeline.intake.service import EssayIntake, Submission
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.settings import PipelineSettings
from essay_pipeline.spellcheck.app import create_app as create_spellcheck
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox.manager import OutboxManager

from .example import SOURCES, settings_of

S = TypeVar("S", bound=PipelineSettings)


def _settings(kind: type[S], name: str, servers: Servers, monkeypatch: pytest.MonkeyPatch, database: str) -> S:
    found = settings_of(name, servers, monkeypatch, DATABASE_URL=database)
    assert isinstance(found, kind)
    return found


@pytest.mark.integration
async def test_a_broker_that_is_away_does_not_crash_a_service(
    servers: Servers, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing can be published an essay is taken, the relay goes on trying, and no attempt is counted."""
    app = create_intake(_settings(IntakeSettings, "intake", servers, monkeypatch, postgres_database))
    async with app.test_app():
        bus = await app.container.get(KafkaBus)
        assert bus.producer is not None
        monkeypatch.setattr(KafkaBus, "publish_batch", AsyncMock(side_effect=ConnectionError("no broker")))
        monkeypatch.setattr(KafkaBus, "publish", AsyncMock(side_effect=ConnectionError("no broker")))
        receipt = await app.extensions["intake"].accept(_submission())
        sessions = await app.container.get(async_sessionmaker[AsyncSession])
        async with sessions() as session:
            rows = (await session.execute(text("SELECT retry_count, published_at FROM event_outbox"))).all()
        assert rows == [(0, None)]
        assert receipt.event_id
        relay = app.relay_worker
        assert relay is not None
        assert relay.is_running


def _submission() -> Submission:
    essay = EssayRequest(title="t", language="en", text="This text is long enough for an essay.")
    return Submission(essay=essay, user_id="u", correlation_id=uuid4(), received_at=datetime.now(UTC))


@pytest.mark.integration
async def test_the_health_checker_is_on_the_application(
    servers: Servers, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the health endpoints, and whoever else has the application, find it: in both services with a database."""
    app = create_intake(_settings(IntakeSettings, "intake", servers, monkeypatch, postgres_database))
    async with app.test_app():
        assert (await app.extensions["health_checker"].get_health_summary())["status"] == "healthy"
    other = create_spellcheck(_settings(SpellcheckSettings, "spellcheck", servers, monkeypatch, postgres_database))
    async with other.router.lifespan_context(other):
        assert (await other.state.health_checker.get_health_summary())["status"] == "healthy"


async def test_services_publish_through_the_shared_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event goes to `OutboxManager`, in the very session that has the essay; no service writes the table itself."""
    monkeypatch.setenv("HULEEDU_INTERNAL_API_KEY", "secret")
    manager, session = AsyncMock(spec=OutboxManager), AsyncMock(spec=AsyncSession)

    @asynccontextmanager
    async def begin() -> AsyncIterator[AsyncSession]:
        yield session

    sessions = Mock(spec=async_sessionmaker, begin=begin)
    receipt = await EssayIntake(sessions, manager, IntakeSettings()).accept(_submission())
    ((essay,), _) = session.add.call_args
    (published,) = manager.publish_to_outbox.await_args_list
    assert essay.id == receipt.essay_id
    assert published.kwargs["session"] is session
    assert published.kwargs["event_data"].event_id == receipt.event_id
    assert [path.name for path in SOURCES if "EventOutbox(" in path.read_text(encoding="utf-8")] == []
