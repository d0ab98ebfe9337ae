"""Section 17: what services' tests patch, replace or assign exists, and the library goes through it."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, patch
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.outbox import EventOutbox, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.redis_set_operations import RedisSetOperations

PATCHED = [
    ("observability", "inject_trace_context"),
    ("kafka_client", "KafkaBus.start"),
    ("kafka_client", "KafkaBus.stop"),
    ("kafka.resilient_kafka_bus", "ResilientKafkaPublisher._process_queued_messages"),
]


@pytest.mark.parametrize(("module", "path"), PATCHED)
def test_it_can_be_patched_by_its_path(module: str, path: str) -> None:
    """`patch` finds the attribute, and whoever imports it inside of a function gets the double."""
    name = f"huleedu_service_libs.{module}.{path}"
    with patch(name) as double:
        thing: Any = importlib.import_module(f"huleedu_service_libs.{module}")
        for part in path.split("."):
            thing = getattr(thing, part)
        assert thing is double


class _Session:
    """A session as a service's unit tests write it: four methods, and what was executed."""

    def __init__(self, row: Any = None) -> None:
        self.add, self.flush, self.commit = Mock(), AsyncMock(), AsyncMock()
        self.texts: list[str] = []
        self.row = row

    async def execute(self, statement: Any) -> Any:
        """Keep the text; the result has the three ways of reading."""
        self.texts.append(str(statement))
        rows = SimpleNamespace(all=lambda: [self.row] if self.row else [])
        return SimpleNamespace(rowcount=0, scalars=lambda: rows, scalar_one_or_none=lambda: self.row)


def _repository(session: _Session) -> PostgreSQLOutboxRepository:
    @asynccontextmanager
    async def factory() -> AsyncIterator[_Session]:
        yield session

    repository = PostgreSQLOutboxRepository(Mock(spec=AsyncEngine), "svc")
    repository._session_factory = factory  # type: ignore[assignment]
    repository.metrics = Mock(spec=OutboxMetrics)
    return repository


NEW: dict[str, Any] = {
    "aggregate_id": "a",
    "aggregate_type": "t",
    "event_type": "e",
    "event_data": {"data": {}},
    "topic": "t",
}


async def test_an_addition_without_a_session() -> None:
    """Its own session: one row, flush, commit, counted once by position."""
    session = _Session()
    repository = _repository(session)
    await repository.add_event(**NEW)
    (row,) = session.add.call_args.args
    assert (isinstance(row, EventOutbox), session.flush.await_count, session.commit.await_count) == (True, 1, 1)
    repository.metrics.increment_events_added.assert_called_once_with("e")  # type: ignore[union-attr]


async def test_an_addition_in_a_session_never_commits() -> None:
    """The session of the business transaction: one row, flush, and the commit is the caller's."""
    session = _Session()
    await _repository(_Session()).add_event(**NEW, session=session)  # type: ignore[arg-type]
    assert (session.add.call_count, session.flush.await_count, session.commit.await_count) == (1, 1, 0)


@pytest.mark.parametrize(
    ("method", "arguments", "texts", "commits"),
    [
        ("get_unpublished_events", (), ["published_at IS NULL"], 0),
        ("mark_event_published", (uuid4(),), ["UPDATE event_outbox"], 1),
        ("mark_event_failed", (uuid4(), "x" * 2000), ["UPDATE event_outbox"], 1),
        ("increment_retry_count", (uuid4(), "x"), ["SELECT", "UPDATE event_outbox"], 1),
        ("get_event_by_id", (uuid4(),), ["WHERE event_outbox.id ="], 0),
    ],
)
async def test_statements(method: str, arguments: tuple[Any, ...], texts: list[str], commits: int) -> None:
    """As many statements as asserted, with these words in them, and a commit after what changes something."""
    session = _Session(SimpleNamespace(id=uuid4(), retry_count=0))
    await getattr(_repository(session), method)(*arguments)
    assert len(session.texts) == len(texts)
    assert all(wanted in text for wanted, text in zip(texts, session.texts, strict=True))
    assert not commits or session.commit.await_count == commits


async def test_a_double_of_an_engine_is_healthy_or_not() -> None:
    """An engine of `begin` and `pool` alone is asked with `begin`; a `size` that cannot be called harms nothing."""
    engine = Mock(spec=["begin", "dispose", "pool"])
    connection = MagicMock()
    connection.execute = AsyncMock()
    engine.begin.return_value = MagicMock(__aenter__=AsyncMock(return_value=connection), __aexit__=AsyncMock())
    engine.pool = SimpleNamespace(size=5)
    checker = DatabaseHealthChecker(engine, "svc")
    assert (await checker.get_health_summary())["status"] != "unhealthy"
    engine.begin.side_effect = ConnectionError("gone")
    assert (await checker.get_health_summary())["status"] == "unhealthy"


async def test_a_double_of_set_operations() -> None:
    """`pipeline` of a double of the class is a context manager."""
    double = MagicMock(spec=RedisSetOperations)
    double.pipeline.return_value.__aenter__ = AsyncMock(return_value="pipe")
    double.pipeline.return_value.__aexit__ = AsyncMock(return_value=None)
    async with double.pipeline() as pipe:
        assert pipe == "pipe"
