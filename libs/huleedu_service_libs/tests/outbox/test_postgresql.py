"""The repository, the manager and the lanes on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import uuid4

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, bindparam, event, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.types import Integer, Text, Uuid

from common_core import EventEnvelope
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.delivery import BatchSender
from huleedu_service_libs.outbox.insertion import NewRow
from huleedu_service_libs.outbox.lanes import LANES, LanesLostError, PostgreSQLBatchStore
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.models import Base, EventOutbox
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import FailedEvent
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.testing.devstack.servers import PostgresServer

from .doubles import BatchingPublisher, eventually
from .tables import VARIANTS

pytestmark = pytest.mark.integration

ADD: dict[str, Any] = {
    "aggregate_id": "essay-1",
    "aggregate_type": "essay",
    "event_type": "e.v1",
    "event_data": {"data": {"ord": "Ärtsoppa på torsdag"}},
    "topic": "t",
}


@pytest.fixture(name="repository")
def _repository(engine: AsyncEngine) -> PostgreSQLOutboxRepository:
    return PostgreSQLOutboxRepository(engine, "svc")


async def _count(engine: AsyncEngine, *conditions: Any) -> int:
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(EventOutbox).where(*conditions)) or 0)


async def test_an_event_comes_back_as_it_was_stored(repository: PostgreSQLOutboxRepository) -> None:
    """All eleven columns, Swedish text included; the time is the database's, with time zone."""
    row_id = await repository.add_event(**ADD, event_key="k")
    event = await repository.get_event_by_id(row_id)
    assert event is not None
    assert (event.id, event.event_data, event.event_key, event.topic) == (row_id, ADD["event_data"], "k", "t")
    assert (event.published_at, event.retry_count, event.last_error) == (None, 0, None)
    assert abs(datetime.now(UTC) - event.created_at) < timedelta(seconds=30)
    assert await repository.get_event_by_id(uuid4()) is None


async def test_the_single_row_methods(repository: PostgreSQLOutboxRepository) -> None:
    """Oldest first and limited; published rows leave; failures are counted and cut to 1 000 characters."""
    ids = [await repository.add_event(**ADD) for _ in range(4)]
    assert [event.id for event in await repository.get_unpublished_events(limit=3)] == ids[:3]
    await repository.mark_event_published(ids[0])
    await repository.mark_event_published(uuid4())
    await repository.increment_retry_count(ids[1], "x" * 2000)
    await repository.mark_event_failed(ids[2], "given up")
    published, retried, failed = [await repository.get_event_by_id(row_id) for row_id in ids[:3]]
    assert published is not None
    assert retried is not None
    assert failed is not None
    assert published.published_at is not None
    assert published.published_at.tzinfo is not None
    assert (retried.retry_count, retried.last_error) == (1, "x" * 1000)
    assert (failed.last_error, failed.published_at) == ("given up", None)
    assert [event.id for event in await repository.get_unpublished_events()] == ids[1:]


async def test_twenty_concurrent_additions(repository: PostgreSQLOutboxRepository, engine: AsyncEngine) -> None:
    """All of them succeed."""
    await asyncio.gather(*(repository.add_event(**ADD) for _ in range(20)))
    assert await _count(engine) == 20


async def test_a_rolled_back_transaction_leaves_nothing(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """The row shares the fate of the caller's session, which is flushed but never committed here."""
    async with AsyncSession(engine) as session:
        await repository.add_event(**ADD, session=session)
        assert await _count(engine) == 0
        await session.rollback()
    assert await _count(engine) == 0


async def test_a_refused_event_cannot_be_swallowed_together_with_the_transaction(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """PostgreSQL answers the COMMIT of an aborted transaction with a quiet rollback: the session refuses to commit it."""
    manager = OutboxManager(repository, service_name="svc")
    for events in (1, 3):
        async with AsyncSession(engine) as session:
            await repository.add_event(**ADD, session=session)
            too_long = [replace(event, topic="t" * 300) for event in _new_events(events)]
            with pytest.raises(HuleEduError, match="DBAPIError") as told:
                await manager.publish_many_to_outbox(too_long, session=session)
            assert "too long" in told.value.error_detail.details["error_details"]
            with pytest.raises(PendingRollbackError):
                await session.commit()
    assert await _count(engine) == 0


async def test_an_event_that_is_refused_in_a_savepoint_costs_the_savepoint(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """What came before it in the transaction is committed, and further events can be added."""
    async with AsyncSession(engine) as session:
        await repository.add_event(**ADD, session=session)
        with pytest.raises(DBAPIError):
            async with session.begin_nested():
                await repository.add_event(**ADD | {"topic": "t" * 300}, session=session)
        await repository.add_event(**ADD, session=session)
        await session.commit()
    assert await _count(engine) == 2


async def test_events_of_one_transaction_keep_their_order(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """Rows of one transaction sort as they were added, and by the time of the insert, not of the begin."""
    async with async_sessionmaker(engine)() as late, async_sessionmaker(engine)() as early:
        await late.execute(select(1))  # this transaction begins first and adds last
        first = [await repository.add_event(**ADD, session=early) for _ in range(20)]
        await early.commit()
        second = [await repository.add_event(**ADD, session=late) for _ in range(5)]
        await late.commit()
    assert [event.id for event in await repository.get_unpublished_events()] == first + second


@pytest.fixture(name="statements_seen")
def _statements_seen(engine: AsyncEngine) -> Iterator[list[str]]:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        seen.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine.sync_engine, "before_cursor_execute", note)


def _new_events(count: int) -> list[NewEvent]:
    return [
        NewEvent(
            aggregate_type="essay",
            aggregate_id=f"a{number % 3}",
            event_type="e.v1",
            event_data=EventEnvelope(event_type="e.v1", source_service="svc", data={"n": number, "ord": "Ärtsoppa"}),
            topic="t",
            headers={"x-n": str(number)} if number % 2 else None,
        )
        for number in range(count)
    ]


async def test_an_addition_is_one_statement(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, statements_seen: list[str]
) -> None:
    """One INSERT in the business transaction, for one event as for five hundred; nothing is committed by it."""
    manager = OutboxManager(repository, None, "svc")
    async with AsyncSession(engine) as session:
        await _publish(manager, session)
        assert [statement.split()[0] for statement in statements_seen] == ["INSERT"]
        await manager.publish_many_to_outbox(_new_events(500), session=session)
        assert [statement.split()[0] for statement in statements_seen] == ["INSERT", "INSERT"]
        assert await _count(engine) == 0
        await session.commit()
    assert await _count(engine) == 501


async def test_many_at_once_keep_their_order_and_their_content(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """Rows of one bulk addition sort as they were given, with headers, keys and text; without a session they commit."""
    await OutboxManager(repository, None, "svc").publish_many_to_outbox(_new_events(100))
    events = await repository.get_unpublished_events(limit=200)
    assert [one.event_data["data"]["n"] for one in events] == list(range(100))
    assert {one.event_key for one in events} == {"a0", "a1", "a2"}
    assert events[1].event_data["headers"] == {"x-n": "1"}
    assert "headers" not in events[0].event_data
    assert (events[0].retry_count, events[0].event_data["data"]["ord"]) == (0, "Ärtsoppa")


async def test_business_rows_are_flushed_before_the_event(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, statements_seen: list[str]
) -> None:
    """What the session holds goes to the database first, so that its errors show where they are made."""
    async with AsyncSession(engine) as session:
        session.add(EventOutbox(**{**ADD, "aggregate_id": "business"}))
        await repository.add_event(**ADD, session=session)
        assert len(statements_seen) == 2
        await session.commit()
    assert [one.aggregate_id for one in await repository.get_unpublished_events()] == ["business", "essay-1"]


async def test_a_payload_without_a_json_form_is_refused_before_the_database(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, statements_seen: list[str]
) -> None:
    """The transaction is not broken by it: nothing was sent."""
    async with AsyncSession(engine) as session:
        with pytest.raises(TypeError, match="not JSON serializable"):
            await repository.add_event(**ADD | {"event_data": {"data": object()}}, session=session)
        assert statements_seen == []
        await repository.add_event(**ADD, session=session)
        await session.commit()
    assert await _count(engine) == 1


async def test_metrics_count_additions(engine: AsyncEngine) -> None:
    """Each addition counts once, with the event type alone."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    repository.metrics = Mock(spec=OutboxMetrics)
    await repository.add_event(**ADD)
    repository.metrics.increment_events_added.assert_called_once_with("e.v1")


# --- wake-up after the commit


async def _publish(manager: OutboxManager, session: AsyncSession | None = None) -> None:
    await manager.publish_to_outbox(
        aggregate_type="essay",
        aggregate_id="essay-1",
        event_type="e.v1",
        event_data=EventEnvelope(event_type="e.v1", source_service="svc", data={}),
        topic="t",
        session=session,
    )


@pytest.fixture(name="redis")
def _redis() -> AsyncMock:
    return AsyncMock(spec=AtomicRedisClientProtocol)


async def test_the_relay_is_woken_after_the_commit(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """Nothing is sent inside the transaction; the commit sends one token, however many events it stored."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await _publish(manager, session)
        await _publish(manager, session)
        redis.lpush.assert_not_called()
        await session.commit()
        await eventually(lambda: redis.lpush.called)
        redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")
        await _publish(manager, session)
        await session.commit()
        await eventually(lambda: redis.lpush.call_count == 2)


async def test_a_rollback_wakes_nobody(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """A rolled-back transaction sends no token, and a later empty commit of the session neither."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await _publish(manager, session)
        await session.rollback()
        await session.execute(select(1))
        await session.commit()
    await asyncio.sleep(0.02)
    redis.lpush.assert_not_called()


async def test_a_savepoint_does_not_wake_early(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """Releasing a savepoint shows nothing to others: the token is sent by the outer commit."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        async with session.begin_nested():
            await _publish(manager, session)
        await asyncio.sleep(0.02)
        redis.lpush.assert_not_called()
        await session.commit()
        await eventually(lambda: redis.lpush.called)


async def test_a_given_up_savepoint_keeps_the_wake_up(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """What was stored before the savepoint is committed, so the relay is woken for it."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await _publish(manager, session)
        with pytest.raises(KeyError):
            async with session.begin_nested():
                raise KeyError
        await session.commit()
        redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")  # asked for when the commit returns


async def test_without_a_session_the_event_is_stored_and_the_relay_woken(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """A transaction of its own, committed when the call returns."""
    await _publish(OutboxManager(repository, redis, "svc"))
    assert await _count(engine) == 1
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")


# --- lanes


@pytest.fixture(name="clock")
def _clock() -> list[float]:
    return [0.0]


@pytest.fixture(name="stores")
async def _stores(engine: AsyncEngine, clock: list[float]) -> AsyncIterator[list[PostgreSQLBatchStore]]:
    stores = [
        PostgreSQLBatchStore(engine, service_name="svc", max_error_length=1000, clock=lambda: clock[0])
        for _ in range(3)
    ]
    yield stores
    for store in stores:
        await store.close()


async def _fetch(store: PostgreSQLBatchStore, clock: list[float], **changes: Any) -> list[Any]:
    clock[0] += 10.0  # time to count the relays again
    arguments: dict[str, Any] = {"limit": 1000, "max_retries": 5, "held_keys": [], "held_topics": []}
    return list(await store.fetch(**(arguments | changes)))


async def _fetch_all(stores: list[PostgreSQLBatchStore], clock: list[float], rounds: int) -> list[list[Any]]:
    """Let the stores balance for some rounds; the batches of the last one."""
    batches: list[list[Any]] = []
    for _ in range(rounds):
        batches = [await _fetch(store, clock) for store in stores]
    return batches


async def test_a_lone_relay_owns_everything(
    repository: PostgreSQLOutboxRepository, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """All lanes, hence all events, oldest first; limit, parked and held events are respected."""
    ids = [await repository.add_event(**ADD | {"aggregate_id": f"a{n}"}) for n in range(5)]
    store = stores[0]
    assert [event.id for event in await _fetch(store, clock)] == ids
    assert len(store.lanes) == LANES
    assert not store.shared
    assert [event.id for event in await _fetch(store, clock, limit=2)] == ids[:2]
    assert [event.id for event in await _fetch(store, clock, held_keys=["a0", "a3"])] == [ids[1], ids[2], ids[4]]
    await repository.increment_retry_count(ids[0], "no")
    assert [event.id for event in await _fetch(store, clock, max_retries=1)] == ids[1:]


async def test_a_late_commit_leaves_when_it_is_seen(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """Two transactions of a key overlap: the event that is visible leaves, though an older one is still uncommitted."""
    async with AsyncSession(engine) as slow, AsyncSession(engine) as quick:
        older = await repository.add_event(**ADD, session=slow)
        younger = await repository.add_event(**ADD, session=quick)
        await quick.commit()
        assert [event.id for event in await _fetch(stores[0], clock)] == [younger]
        await slow.commit()
    assert [event.id for event in await _fetch(stores[0], clock)] == [older, younger]


async def test_transactions_that_wait_for_each_other_keep_their_order(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """The second begins first and waits for the first one's row lock: its event stands behind, as it was added behind."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE essay AS SELECT 1 AS id"))
    lock = text("SELECT id FROM essay FOR UPDATE")
    async with AsyncSession(engine) as second, AsyncSession(engine) as first:
        await second.execute(text("SELECT now()"))  # its transaction is the older one
        await first.execute(lock)
        waiting = asyncio.create_task(second.execute(lock))
        first_id = await repository.add_event(**ADD, session=first)
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await first.commit()
        await waiting
        second_id = await repository.add_event(**ADD, session=second)
        await second.commit()
    assert [event.id for event in await _fetch(stores[0], clock)] == [first_id, second_id]


async def test_what_is_in_flight_is_not_read_again(
    repository: PostgreSQLOutboxRepository, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """The look beside a delivery returns what comes behind it, later events of the same keys included."""
    ids = [await repository.add_event(**ADD | {"aggregate_id": f"a{n % 2}"}) for n in range(5)]
    first = await _fetch(stores[0], clock, limit=2)
    following = await _fetch(stores[0], clock, in_flight=first)
    assert [event.id for event in following] == ids[2:]


async def test_a_lane_in_flight_is_left_only_when_its_events_are_settled(
    repository: PostgreSQLOutboxRepository, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """A relay that must give up half of its lanes while it sends reads no more of them, and unlocks them a look later."""
    for n in range(200):
        await repository.add_event(**ADD | {"aggregate_id": f"a{n}"})
    sending = await _fetch(stores[0], clock, limit=100)
    assert await _fetch(stores[1], clock) == []  # nothing is free yet
    following = await _fetch(stores[0], clock, in_flight=sending)
    assert len(stores[0].lanes) == LANES // 2
    assert await _fetch(stores[1], clock) == []  # the events of these lanes are still being sent
    await stores[0].settle(published=sending, failed=[], max_retries=5)
    again = await _fetch(stores[0], clock, in_flight=following)
    others = await _fetch(stores[1], clock)
    assert len(stores[1].lanes) == LANES // 2
    assert not {event.id for event in (*following, *again)} & {event.id for event in others}
    assert others


async def test_a_table_that_is_made_again_has_one_owner(
    engine: AsyncEngine, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """The locks go by the table's name, so a relay on the old table and one on the new exclude each other."""
    await _fetch(stores[0], clock)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
        await connection.run_sync(Base.metadata.create_all)
    await _fetch(stores[1], clock)
    assert not stores[0].lanes & stores[1].lanes


async def test_a_row_that_cannot_be_decoded_is_the_fault_of_that_row(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """What PostgreSQL takes for JSON and Python does not read fails when the row is sent, not the whole batch."""
    await repository.add_event(**ADD)
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic) VALUES"
                " (gen_random_uuid(), 'deep', 'x', 'e', (repeat('[', 5000) || repeat(']', 5000))::json, 't')"
            )
        )
    good, deep = await _fetch(stores[0], clock)
    assert good.event_data == ADD["event_data"]
    outcomes = await BatchSender(BatchingPublisher(), "svc").deliver([deep, good])
    assert [(one.acknowledged, one.transient) for one in outcomes] == [(False, False), (True, False)]


async def test_the_server_notices_a_vanished_relay(
    engine: AsyncEngine, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """The relay's session asks for keepalives, so that its lanes are free within half a minute of a lost host."""
    await _fetch(stores[0], clock)
    names = ["tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout"]
    session = stores[0]._session
    shown = [(await session.execute(text(f"SHOW {name}"))).scalar() for name in [*names, "idle_session_timeout"]]
    assert shown == ["10", "5", "3", "25000", "15s"]


async def test_the_server_takes_the_lanes_of_a_relay_that_says_nothing(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, clock: list[float]
) -> None:
    """Without a heartbeat the session ends after the idle limit: another relay owns everything, the silent one nothing."""
    await repository.add_event(**ADD)
    limit: dict[str, Any] = {
        "service_name": "svc",
        "max_error_length": 1000,
        "clock": lambda: clock[0],
        "idle_limit_seconds": 0.5,
    }
    silent, other = PostgreSQLBatchStore(engine, **limit), PostgreSQLBatchStore(engine, **limit)
    (event,) = await _fetch(silent, clock)
    assert silent._session._heart is not None
    silent._session._heart.cancel()
    await asyncio.sleep(1.0)
    assert [one.id for one in await _fetch(other, clock)] == [event.id]
    assert len(other.lanes) == LANES
    with pytest.raises((DBAPIError, LanesLostError)):
        await silent.settle(published=[event], failed=[], max_retries=5)
    await asyncio.sleep(1.5)
    assert [one.id for one in await _fetch(other, clock)] == [event.id]  # its heart has kept it
    assert await _count(engine, EventOutbox.published_at.is_not(None)) == 0
    await other.close()
    await silent.close()


async def test_relays_share_the_keys_and_take_over_from_each_other(
    repository: PostgreSQLOutboxRepository, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """Three relays own every lane once; what one leaves the others take; no event is seen by two."""
    ids = {await repository.add_event(**ADD | {"aggregate_id": f"a{n}"}) for n in range(200)}
    batches = await _fetch_all(stores, clock, 3)
    seen = [event.id for batch in batches for event in batch]
    assert len(seen) == len(set(seen)) == len(ids)
    assert sorted(len(store.lanes) for store in stores) == [20, 22, 22]
    assert all(store.shared for store in stores)
    await stores[0].close()
    batches = await _fetch_all(stores[1:], clock, 2)
    assert {event.id for batch in batches for event in batch} == ids
    assert [len(store.lanes) for store in stores[1:]] == [32, 32]


async def test_who_has_lost_the_session_completes_nothing(
    repository: PostgreSQLOutboxRepository,
    engine: AsyncEngine,
    stores: list[PostgreSQLBatchStore],
    clock: list[float],
) -> None:
    """A relay whose session the server has ended fails to settle; the next fetch begins anew."""
    await repository.add_event(**ADD)
    (event,) = await _fetch(stores[0], clock)
    async with engine.connect() as connection:
        await connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 0")
        )
    with pytest.raises(DBAPIError):  # whatever asyncpg says in that moment
        await stores[0].settle(published=[event], failed=[], max_retries=5)
    assert await _count(engine, EventOutbox.published_at.is_not(None)) == 0
    with pytest.raises(LanesLostError):
        await stores[0].settle(published=[event], failed=[], max_retries=5)
    assert [one.id for one in await _fetch(stores[0], clock)] == [event.id]


async def test_results_of_a_batch(
    repository: PostgreSQLOutboxRepository,
    engine: AsyncEngine,
    stores: list[PostgreSQLBatchStore],
    clock: list[float],
) -> None:
    """Published rows get the database's time; failed ones an attempt and the error; the last attempt parks."""
    ids = [await repository.add_event(**ADD | {"aggregate_id": f"a{n}"}) for n in range(3)]
    await repository.increment_retry_count(ids[2], "first")
    good, bad, last = await _fetch(stores[0], clock)
    parked = await stores[0].settle(
        published=[good],
        failed=[FailedEvent(event=bad, error="too\x00 large"), FailedEvent(event=last, error="y" * 2000)],
        max_retries=2,
    )
    assert [event.id for event in parked] == [ids[2]]
    one, two = [await repository.get_event_by_id(row_id) for row_id in ids[1:]]
    assert one is not None
    assert two is not None
    assert (one.retry_count, one.last_error) == (1, "too large")
    assert two.retry_count == 2
    assert (two.last_error or "").startswith("Exceeded max retries (2): yyy")
    assert len(two.last_error or "") == 1000
    assert await stores[0].depth(max_retries=2) == 1
    assert await _count(engine, EventOutbox.published_at.is_not(None)) == 1


async def test_rows_that_somebody_else_has_used_up_are_reported(
    repository: PostgreSQLOutboxRepository, stores: list[PostgreSQLBatchStore], clock: list[float]
) -> None:
    """They are not sent, and their error says that they are parked, with the old one behind it."""
    row_id = await repository.add_event(**ADD)
    for _ in range(2):
        await repository.increment_retry_count(row_id, "old")
    assert await _fetch(stores[0], clock, max_retries=2) == []
    event = await repository.get_event_by_id(row_id)
    assert event is not None
    assert event.last_error == "Exceeded max retries (2): old"


async def test_a_batch_leaves_no_transaction_open(
    repository: PostgreSQLOutboxRepository,
    engine: AsyncEngine,
    stores: list[PostgreSQLBatchStore],
    clock: list[float],
) -> None:
    """Between reading a batch and storing its result the relay's session is idle, outside any transaction."""
    await repository.add_event(**ADD)
    await _fetch(stores[0], clock)
    async with engine.connect() as connection:
        states = (
            await connection.scalars(
                text(
                    "SELECT state FROM pg_stat_activity JOIN pg_locks USING (pid)"
                    " WHERE locktype = 'advisory' AND objid = 0"
                )
            )
        ).all()
    assert states == ["idle"]


async def test_the_relays_order_is_served_by_the_partial_index(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """Reading a share of a large backlog walks the index and sorts at most equal times, never the backlog."""
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at)"
                " SELECT gen_random_uuid(), 'a' || n, 'x', 'e', '{}', 't', now() + n * interval '1 ms'"
                " FROM generate_series(1, 20000) n"
            )
        )
        await connection.execute(text("ANALYZE event_outbox"))
        await connection.execute(text("SET enable_sort = off"))
        plan = (
            await connection.scalars(
                text("EXPLAIN " + statements.fetch_statement().text).bindparams(
                    bindparam("lanes", [1, 2], type_=ARRAY(Integer)),
                    bindparam("held_keys", [], type_=ARRAY(Text)),
                    bindparam("held_topics", [], type_=ARRAY(Text)),
                    bindparam("in_flight", [uuid4() for _ in range(100)], type_=ARRAY(Uuid)),
                    max_retries=5,
                    all_lanes=False,
                    limit=100,
                )
            )
        ).all()
    assert not any(line.strip(" ->").startswith("Sort  (") for line in plan), plan
    assert any("ix_event_outbox_unpublished" in line for line in plan)


@pytest.mark.parametrize("ddl", VARIANTS.values(), ids=VARIANTS.keys())
async def test_every_table_that_services_have(postgres_database: str, ddl: str) -> None:
    """Adding, reading, failing and publishing work on each variant, in a session with another time zone too."""
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": "Europe/Stockholm"}})
    async with engine.begin() as connection:
        for statement in ddl.split(";"):
            await connection.execute(text(statement))
    repository = PostgreSQLOutboxRepository(engine, "svc")
    store = repository.batch_store()
    ids = [await repository.add_event(**ADD) for _ in range(2)]
    rows = [NewRow(id=uuid7(), **ADD) for _ in range(2)]
    await repository.add_events(rows)
    ids += [row.id for row in rows]
    await repository.mark_event_published(ids[0])
    events = await store.fetch(limit=10, max_retries=5, held_keys=[], held_topics=[])
    assert [event.id for event in events] == ids[1:]
    assert {str(event.event_data) for event in events} == {str(ADD["event_data"])}
    assert abs(datetime.now(UTC) - events[0].created_at) < timedelta(seconds=30)  # the moment, whatever the zone
    await store.settle(published=events[:1], failed=[FailedEvent(event=events[1], error="no")], max_retries=5)
    assert [event.id for event in await repository.get_unpublished_events()] == ids[2:]
    last = await repository.get_event_by_id(ids[2])
    assert last is not None
    assert last.retry_count == 1
    await store.close()
    await engine.dispose()


async def test_the_table_has_exactly_the_eleven_columns_and_three_indexes(engine: AsyncEngine) -> None:
    """Services' own migrations made the table; nothing more may be needed, and the metadata stays apart."""
    async with engine.connect() as connection:
        columns = (
            await connection.scalars(
                text(
                    "SELECT column_name FROM information_schema.columns WHERE table_name = 'event_outbox'"
                    " ORDER BY ordinal_position"
                )
            )
        ).all()
        indexes = (
            await connection.scalars(text("SELECT indexname FROM pg_indexes WHERE tablename = 'event_outbox'"))
        ).all()
    assert columns == [
        "id",
        "aggregate_id",
        "aggregate_type",
        "event_type",
        "event_data",
        "event_key",
        "topic",
        "created_at",
        "published_at",
        "retry_count",
        "last_error",
    ]
    assert {"ix_event_outbox_unpublished", "ix_event_outbox_aggregate", "ix_event_outbox_event_type"} <= set(indexes)
    assert set(Base.metadata.tables) == {"event_outbox"}


async def test_the_migration_template_makes_the_same_table(
    engine: AsyncEngine, postgres_server: PostgresServer
) -> None:
    """Filled in and run, the shipped revision creates what the model says, and takes it away again."""
    template = (files("huleedu_service_libs.outbox") / "templates" / "create_outbox_table.py.template").read_text()
    for name in ("SERVICE_NAME", "REVISION_ID", "DOWN_REVISION", "CREATE_DATE"):
        assert f"{{{name}}}" in template
        template = template.replace(f"{{{name}}}", "x")
    revision: dict[str, Any] = {}
    exec(compile(template, "revision.py", "exec"), revision)  # noqa: S102  # our own template
    other = create_async_engine(postgres_server.create_database().replace("postgresql://", "postgresql+asyncpg://", 1))

    def run(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            revision["upgrade"]()

    async with other.begin() as connection:
        await connection.run_sync(run)
    assert await _shape(other) == await _shape(engine)

    def back(connection: Connection) -> None:
        with Operations.context(MigrationContext.configure(connection)):
            revision["downgrade"]()

    async with other.begin() as connection:
        await connection.run_sync(back)
    assert await _shape(other) == ([], [])
    await other.dispose()


async def _shape(engine: AsyncEngine) -> tuple[list[Any], list[Any]]:
    async with engine.connect() as connection:
        columns = await connection.execute(
            text(
                "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default"
                " FROM information_schema.columns WHERE table_name = 'event_outbox' ORDER BY ordinal_position"
            )
        )
        indexes = await connection.execute(
            text("SELECT indexdef FROM pg_indexes WHERE tablename = 'event_outbox' ORDER BY indexname")
        )
        return list(columns.all()), list(indexes.all())
