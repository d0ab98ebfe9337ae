"""Section 6.3: `PostgreSQLOutboxRepository`. Its statements, as services' tests see them, and what they do on PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from huleedu_service_libs.outbox import EventOutbox, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from tests.contract.outbox_tables import VARIANTS

NEW: dict[str, Any] = {
    "aggregate_id": "a-1",
    "aggregate_type": "essay",
    "event_type": "e.v1",
    "event_data": {"event_id": "1", "data": {"text": "räksmörgås", "n": [1, None, 2.5], "deep": {"å": True}}},
    "topic": "t",
}
REAL_TABLES = {"as the model": None, **VARIANTS}


class Session:
    """A session as a service's unit tests write it: four methods, and what was executed."""

    def __init__(self, row: Any = None, rowcount: int = 1) -> None:
        self.add, self.flush, self.commit = Mock(), AsyncMock(), AsyncMock()
        self.executed: list[Any] = []
        self.row, self.rowcount = row, rowcount

    async def execute(self, statement: Any) -> Any:
        """Keep the statement; the result has the three ways of reading."""
        self.executed.append(statement)
        rows = SimpleNamespace(all=lambda: [self.row] if self.row else [])
        return SimpleNamespace(rowcount=self.rowcount, scalars=lambda: rows, scalar_one_or_none=lambda: self.row)

    @property
    def texts(self) -> list[str]:
        return [str(one) for one in self.executed]

    def values(self, at: int) -> set[Any]:
        """What one statement was given."""
        return set(self.executed[at].compile().params.values())


def _repository(session: Any) -> PostgreSQLOutboxRepository:
    @asynccontextmanager
    async def factory() -> AsyncIterator[Any]:
        yield session

    repository = PostgreSQLOutboxRepository(Mock(spec=AsyncEngine), "svc")
    repository._session_factory = factory
    repository.metrics = Mock(spec=OutboxMetrics)
    return repository


@pytest.mark.contract("6.3-mock-engine", "6.3-signatures")
def test_a_mock_of_an_engine_is_enough() -> None:
    """Metrics are there unless they are switched off."""
    engine = Mock(spec=AsyncEngine)
    assert isinstance(PostgreSQLOutboxRepository(engine, "svc").metrics, OutboxMetrics)
    silent = PostgreSQLOutboxRepository(engine=engine, service_name="svc", enable_metrics=False)
    assert silent.metrics is None
    assert callable(silent._session_factory)


@pytest.mark.contract("6.3-add-own-session", "6.3-session-factory")
async def test_an_addition_without_a_session() -> None:
    """Its own session: one row, flush, commit; its id is returned; it is counted once, by position."""
    session = Session()
    repository = _repository(session)
    found = await repository.add_event(**NEW)
    (row,) = session.add.call_args.args
    assert isinstance(row, EventOutbox)
    assert (session.add.call_count, session.flush.await_count, session.commit.await_count) == (1, 1, 1)
    assert {name: getattr(row, name) for name in NEW} == NEW
    assert isinstance(found, UUID)
    assert row.id == found
    repository.metrics.increment_events_added.assert_called_once_with("e.v1")  # type: ignore[union-attr]


@pytest.mark.contract("6.3-add-in-session")
async def test_an_addition_in_a_session_never_commits() -> None:
    """The session of the business transaction: one row, flush, and the commit is the caller's."""
    session: Any = Session()
    own = Session()
    await _repository(own).add_event(**NEW, session=session)
    assert (session.add.call_count, session.flush.await_count, session.commit.await_count) == (1, 1, 0)
    assert (own.add.call_count, own.commit.await_count) == (0, 0)


@pytest.mark.contract("6.3-unpublished")
async def test_looking_for_unpublished_events() -> None:
    """One statement; a row may lack attributes until they are asked for."""
    row = SimpleNamespace(id=uuid4(), topic="t")
    session = Session(row)
    (event,) = await _repository(session).get_unpublished_events(limit=7)
    (statement,) = session.texts
    assert "published_at IS NULL" in statement
    assert 7 in session.values(0)
    assert (event.id, event.topic) == (row.id, "t")
    with pytest.raises(AttributeError):
        _ = event.last_error
    assert await _repository(Session()).get_unpublished_events() == []


@pytest.mark.contract("6.3-published", "6.3-published-at")
@pytest.mark.parametrize("rowcount", [1, 0])
async def test_marking_as_published(rowcount: int) -> None:
    """One UPDATE by id, and a commit; an id that is not there changes nothing."""
    session, event = Session(rowcount=rowcount), uuid4()
    await _repository(session).mark_event_published(event)
    (statement,) = session.texts
    assert "UPDATE event_outbox" in statement
    assert "WHERE event_outbox.id =" in statement
    assert session.commit.await_count == 1
    (at,) = (one for one in session.values(0) if isinstance(one, datetime))
    assert at.utcoffset() == timedelta(0)


@pytest.mark.contract("6.3-failed")
async def test_marking_as_failed() -> None:
    """One UPDATE and a commit; the text is cut, and the event stays unpublished."""
    session = Session()
    await _repository(session).mark_event_failed(uuid4(), "x" * 2000)
    (statement,) = session.texts
    assert "UPDATE event_outbox" in statement
    assert "published_at" not in statement
    assert session.commit.await_count == 1
    assert "x" * 1000 in session.values(0)


@pytest.mark.contract("6.3-retry")
async def test_counting_a_retry() -> None:
    """A SELECT by id and an UPDATE of both columns, and a commit; the text is cut."""
    session, event = Session(SimpleNamespace(id=uuid4(), retry_count=2)), uuid4()
    await _repository(session).increment_retry_count(event, "x" * 2000)
    select, update = session.texts
    assert select.startswith("SELECT")
    assert "event_outbox.id =" in select
    assert all(part in update for part in ("UPDATE event_outbox", "retry_count=", "last_error="))
    assert "x" * 1000 in session.values(1)
    assert session.commit.await_count == 1


@pytest.mark.contract("6.3-by-id")
async def test_looking_up_one_event() -> None:
    """One SELECT by id; None when there is none."""
    row = SimpleNamespace(id=uuid4())
    session = Session(row)
    found = await _repository(session).get_event_by_id(row.id)
    assert found is not None
    assert found.id == row.id
    (statement,) = session.texts
    assert statement.startswith("SELECT")
    assert "WHERE event_outbox.id =" in statement
    assert await _repository(Session()).get_event_by_id(row.id) is None


# On PostgreSQL


@pytest.fixture(name="engine")
async def _engine(request: pytest.FixtureRequest, postgres_database: str) -> AsyncIterator[AsyncEngine]:
    """A database with the table of the model, or with one that a service really has."""
    engine = create_async_engine(postgres_database)
    made = getattr(request, "param", None)
    async with engine.begin() as connection:
        if made is None:
            await connection.run_sync(EventOutbox.metadata.create_all)
        for statement in (made or "").split(";"):
            if statement.strip():
                await connection.execute(text(statement))
    yield engine
    await engine.dispose()


@pytest.mark.contract("6.1-real-tables", "6.3-data", "6.3-published-at")
@pytest.mark.parametrize("engine", REAL_TABLES.values(), ids=REAL_TABLES, indirect=True)
async def test_the_life_of_an_event(engine: AsyncEngine) -> None:
    """Added, read, failed, counted, given up, published: with each of the tables that services have."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    event_id = await repository.add_event(**NEW, event_key="k")
    (event,) = await repository.get_unpublished_events()
    assert {name: getattr(event, name) for name in NEW} == NEW
    assert (event.id, event.event_key, event.retry_count, event.last_error, event.published_at) == (
        event_id,
        "k",
        0,
        None,
        None,
    )
    assert isinstance(event.created_at, datetime)
    await repository.increment_retry_count(event_id, "once")
    await repository.increment_retry_count(event_id, "twice")
    await repository.mark_event_failed(event_id, "for good")
    failed = await repository.get_event_by_id(event_id)
    assert failed is not None
    assert (failed.retry_count, failed.last_error, failed.published_at) == (2, "for good", None)
    await repository.mark_event_published(event_id)
    await repository.mark_event_published(uuid4())
    done = await repository.get_event_by_id(event_id)
    assert done is not None
    assert done.published_at is not None
    at = done.published_at if done.published_at.tzinfo else done.published_at.replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - at) < timedelta(minutes=2)
    assert await repository.get_unpublished_events() == []


@pytest.mark.contract("6.3-order")
async def test_oldest_first_and_not_more_than_the_limit(engine: AsyncEngine) -> None:
    """The order is that of `created_at`, whatever the order of the rows."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    ids = [await repository.add_event(**NEW) for _ in range(4)]
    async with engine.begin() as connection:
        for age, event_id in zip((1, 4, 2, 3), ids, strict=True):
            await connection.execute(
                text("UPDATE event_outbox SET created_at = now() - make_interval(mins => :age) WHERE id = :id"),
                {"age": age, "id": event_id},
            )
    wanted = [ids[1], ids[3], ids[2], ids[0]]
    assert [event.id for event in await repository.get_unpublished_events()] == wanted
    assert [event.id for event in await repository.get_unpublished_events(limit=2)] == wanted[:2]


@pytest.mark.contract("6.3-concurrent")
async def test_twenty_additions_at_once(engine: AsyncEngine) -> None:
    """All succeed, each with an id of its own."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    ids = await asyncio.gather(*(repository.add_event(**NEW) for _ in range(20)))
    assert {event.id for event in await repository.get_unpublished_events()} == set(ids)
    assert len(set(ids)) == 20


@pytest.mark.contract("6.3-add-in-session")
async def test_the_row_shares_the_callers_transaction(engine: AsyncEngine) -> None:
    """Rolled back with it, committed with it."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    async with AsyncSession(engine) as session:
        await repository.add_event(**NEW, session=session)
        await session.rollback()
        assert await repository.get_unpublished_events() == []
        kept = await repository.add_event(**NEW, session=session)
        await session.commit()
    assert [event.id for event in await repository.get_unpublished_events()] == [kept]
