"""The repository, the manager and the lanes on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.types import Integer, Text, Uuid

from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.delivery import BatchSender
from huleedu_service_libs.outbox.lanes import LANES, LanesLostError, PostgreSQLBatchStore
from huleedu_service_libs.outbox.models import Base, EventOutbox
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import FailedEvent
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from .doubles import BatchingPublisher
from .rows import ADD, count_rows

pytestmark = pytest.mark.integration


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
    assert await count_rows(engine) == 20


async def test_a_rolled_back_transaction_leaves_nothing(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """The row shares the fate of the caller's session, which is flushed but never committed here."""
    async with AsyncSession(engine) as session:
        await repository.add_event(**ADD, session=session)
        assert await count_rows(engine) == 0
        await session.rollback()
    assert await count_rows(engine) == 0


async def test_metrics_count_additions(engine: AsyncEngine) -> None:
    """Each addition counts once, with the event type alone."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    repository.metrics = Mock(spec=OutboxMetrics)
    await repository.add_event(**ADD)
    repository.metrics.increment_events_added.assert_called_once_with("e.v1")


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
        "idle_limit_s": 1.5,
    }
    silent, other = PostgreSQLBatchStore(engine, **limit), PostgreSQLBatchStore(engine, **limit)
    (event,) = await _fetch(silent, clock)
    assert silent._session._heart is not None
    silent._session._heart.cancel()
    async with asyncio.timeout(20):
        while [one.id for one in await _fetch(other, clock)] != [event.id]:
            await asyncio.sleep(0.1)
    assert len(other.lanes) == LANES
    with pytest.raises((DBAPIError, LanesLostError)):
        await silent.settle(published=[event], failed=[], max_retries=5)
    await asyncio.sleep(2.5)
    assert [one.id for one in await _fetch(other, clock)] == [event.id]  # its heart has kept it
    assert await count_rows(engine, EventOutbox.published_at.is_not(None)) == 0
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
    assert await count_rows(engine, EventOutbox.published_at.is_not(None)) == 0
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
    assert await count_rows(engine, EventOutbox.published_at.is_not(None)) == 1


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
