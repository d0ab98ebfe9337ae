"""Section 17: what services' tests patch, replace or assign exists, and the library goes through it."""

import gc
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, patch
from uuid import uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.outbox import EventOutbox, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.redis_set_operations import RedisSetOperations

PATCHED = [
    ("observability", "inject_trace_context"),
    ("kafka_client", "KafkaBus.start"),
    ("kafka_client", "KafkaBus.stop"),
    ("kafka.resilient_kafka_bus", "ResilientKafkaPublisher._process_queued_messages"),
]


@pytest.mark.contract("17-inject-trace-context", "17-bus-start-stop", "17-publisher-queue")
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


@pytest.mark.contract("17-repository-session-factory")
async def test_an_addition_without_a_session() -> None:
    """Its own session: one row, flush, commit, counted once by position."""
    session = _Session()
    repository = _repository(session)
    await repository.add_event(**NEW)
    (row,) = session.add.call_args.args
    assert (isinstance(row, EventOutbox), session.flush.await_count, session.commit.await_count) == (True, 1, 1)
    repository.metrics.increment_events_added.assert_called_once_with("e")  # type: ignore[union-attr]


@pytest.mark.contract("17-repository-session-factory")
async def test_an_addition_in_a_session_never_commits() -> None:
    """The session of the business transaction: one row, flush, and the commit is the caller's."""
    session = _Session()
    await _repository(_Session()).add_event(**NEW, session=session)  # type: ignore[arg-type]
    assert (session.add.call_count, session.flush.await_count, session.commit.await_count) == (1, 1, 0)


@pytest.mark.contract("17-repository-session-factory")
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


@pytest.mark.contract("17-engine-double")
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


@pytest.mark.contract("17-engine-spec")
@pytest.mark.filterwarnings("ignore:coroutine 'AsyncMockMixin:RuntimeWarning")
async def test_a_mock_of_an_engine_fails_soft() -> None:
    """A mock in the place of the engine gives answers, whatever they say, and no exception."""
    checker = DatabaseHealthChecker(AsyncMock(spec=AsyncEngine), "svc")
    assert (await checker.get_health_summary())["service"] == "svc"
    assert (await checker.comprehensive_health_check())["service"] == "svc"
    del checker
    gc.collect()  # what the mock answered and nobody awaited is told of here, and not in another test


@pytest.mark.contract("17-redis-doubles")
async def test_a_redis_double_of_four_methods() -> None:
    """Looked up, claimed with `ttl_seconds=300` and confirmed by `setex`; nothing else is asked of the double."""
    redis: Any = SimpleNamespace(
        get=AsyncMock(return_value=None),
        set_if_not_exists=AsyncMock(return_value=True),
        setex=AsyncMock(return_value=True),
        delete_key=AsyncMock(return_value=1),
    )

    @idempotent_consumer(redis_client=redis, config=IdempotencyConfig("svc", {}, 77))
    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        await confirm_idempotency()
        return False

    body = b'{"event_id": "1", "event_type": "e.v1", "data": {}}'
    message = SimpleNamespace(value=body, headers=[], topic="t", partition=0, offset=0)
    assert await handler(message) is False
    (key, claim), keywords = redis.set_if_not_exists.call_args
    assert (json.loads(claim)["status"], keywords) == ("processing", {"ttl_seconds": 300})
    redis.get.assert_called_once_with(key)
    assert redis.setex.call_args.args[:2] == (key, 77)
    assert json.loads(redis.setex.call_args.args[2])["status"] == "completed"
    redis.delete_key.assert_not_called()


@pytest.mark.contract("17-set-operations")
async def test_a_double_of_set_operations() -> None:
    """`pipeline` of a double of the class is a context manager."""
    double = MagicMock(spec=RedisSetOperations)
    double.pipeline.return_value.__aenter__ = AsyncMock(return_value="pipe")
    double.pipeline.return_value.__aexit__ = AsyncMock(return_value=None)
    async with double.pipeline() as pipe:
        assert pipe == "pipe"
