"""Order of a key whose transactions overlap: lost without strict mode, kept with it; and who stands in the way is named."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.lanes import PostgreSQLBatchStore
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.protocols import OutboxBatchStore, OutboxEvent
from huleedu_service_libs.outbox.relay import EventRelayWorker
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.writers import StrictOrderError, Writer
from tests.contract.outbox_tables import VARIANTS

from .doubles import Publisher, Repository

ADD: dict[str, Any] = {"aggregate_type": "essay", "event_type": "e.v1", "event_data": {"data": {}}, "topic": "t"}


@pytest.fixture(name="strict")
async def _strict(repository: PostgreSQLOutboxRepository) -> AsyncIterator[OutboxBatchStore]:
    store = repository.batch_store(strict_order_limit_seconds=0.0)
    yield store
    await store.close()


async def _add(repository: PostgreSQLOutboxRepository, session: AsyncSession, key: str = "k") -> UUID:
    return await repository.add_event(aggregate_id=key, session=session, **ADD)


async def _fetch(store: OutboxBatchStore) -> list[UUID]:
    return [one.id for one in await store.fetch(limit=100, max_retries=5, held_keys=[], held_topics=[])]


def _blocker(store: PostgreSQLBatchStore) -> Writer | None:
    assert store._gate is not None
    return store._gate.blocker


@pytest.mark.integration
async def test_two_overlapping_transactions_of_one_key(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, strict: OutboxBatchStore
) -> None:
    """The one that inserts first commits last: as usual the later event is handed out first; strictly, both in order."""
    usual = repository.batch_store()
    async with AsyncSession(engine) as early, AsyncSession(engine) as late:
        first = await _add(repository, early)
        second = await _add(repository, late)
        await late.commit()
        assert await _fetch(usual) == [second]
        await usual.close()
        assert await _fetch(strict) == []
        assert strict.shared  # so the relay looks again soon, though no wake-up may come
        await early.commit()
    assert await _fetch(strict) == [first, second]
    assert not strict.shared


@pytest.mark.integration
async def test_what_was_added_before_the_oldest_writer_leaves(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, strict: OutboxBatchStore
) -> None:
    """A running writer holds back what is younger than itself, of every key, and nothing else; a rollback frees it."""
    async with AsyncSession(engine) as session:
        before = await _add(repository, session)
        await session.commit()
    async with AsyncSession(engine) as running, AsyncSession(engine) as other:
        await _add(repository, running)
        after = await _add(repository, other, "another")
        await other.commit()
        assert await _fetch(strict) == [before]
        await running.rollback()
    assert await _fetch(strict) == [before, after]


@pytest.mark.integration
async def test_a_long_transaction_that_has_not_written_the_outbox_holds_nothing_back(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, strict: OutboxBatchStore
) -> None:
    """A writer of other tables, and a reader of the outbox, stand in nobody's way."""
    async with AsyncSession(engine) as long, AsyncSession(engine) as session:
        await long.execute(text("CREATE TABLE other AS SELECT 1 AS n"))
        await long.execute(text("SELECT * FROM event_outbox"))
        row = await _add(repository, session)
        await session.commit()
        assert await _fetch(strict) == [row]
        late = await _add(repository, long)  # written later, hence younger than what has left
        assert await _fetch(strict) == []
        await long.commit()
    assert await _fetch(strict) == [row, late]


@pytest.mark.integration
async def test_relays_do_not_hold_each_other_back(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, strict: PostgreSQLBatchStore
) -> None:
    """A session that holds the relays' lock updates rows and adds none, so it counts for no writer; any other does."""
    await _fetch(strict)  # this relay is the first, and owns the lanes
    other = repository.batch_store()
    assert isinstance(other, PostgreSQLBatchStore)
    await _fetch(other)
    assert other._session._connection is not None
    update = text("UPDATE event_outbox SET last_error = 'x'")
    await other._session._connection.execute(text("BEGIN"))
    await other._session._connection.execute(update)
    await _fetch(strict)
    assert _blocker(strict) is None
    async with AsyncSession(engine) as session:
        await session.execute(update)
        await _fetch(strict)
        assert _blocker(strict) is not None
    await other._session._connection.execute(text("ROLLBACK"))
    await other.close()


@pytest.mark.integration
async def test_who_holds_the_relay_is_named(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, strict: PostgreSQLBatchStore
) -> None:
    """Process id, application and age are logged once, and the metric grows until the writer has ended."""
    named = create_async_engine(engine.url, connect_args={"server_settings": {"application_name": "night-import"}})
    with capture_logs() as logs:
        async with AsyncSession(named) as session:
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            await _add(repository, session)
            held = []
            for _ in range(3):
                await _fetch(strict)
                held.append(REGISTRY.get_sample_value("outbox_held_by_writer_seconds", {"service": "svc"}) or 0)
            await session.rollback()
        await _fetch(strict)
    await named.dispose()
    (told,) = [line for line in logs if line["event"] == "outbox_held_by_writer"]
    assert (told["pid"], told["application"], told["state"]) == (pid, "night-import", "idle in transaction")
    assert told["held_seconds"] == round(held[0], 1)
    assert "pg_terminate_backend" in told["fix"]
    assert 0 < held[0] < held[1] < held[2]
    assert REGISTRY.get_sample_value("outbox_held_by_writer_seconds", {"service": "svc"}) == 0
    assert [line["event"] for line in logs].count("outbox_writer_ended") == 1


@pytest.mark.integration
async def test_a_role_that_may_not_see_the_writers_start_is_told_what_to_grant(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine
) -> None:
    """Nothing leaves out of order, and the log names the privilege; with it, all is as usual."""
    async with engine.begin() as connection:
        for statement in ("DROP ROLE IF EXISTS outbox_relay", "CREATE ROLE outbox_relay LOGIN"):
            await connection.execute(text(statement))
        await connection.execute(text("GRANT SELECT, UPDATE ON event_outbox TO outbox_relay"))
    restricted = create_async_engine(engine.url.set(username="outbox_relay"))
    store = PostgreSQLOutboxRepository(restricted, "svc").batch_store(strict_order_limit_seconds=-1.0)
    try:
        with capture_logs() as logs:
            async with AsyncSession(engine) as early, AsyncSession(engine) as late:
                first = await _add(repository, early)
                second = await _add(repository, late)
                await late.commit()
                assert await _fetch(store) == []
                await early.commit()
            assert await _fetch(store) == [first, second]
        (told,) = [line for line in logs if line["event"] == "outbox_held_by_writer"]
        assert "GRANT pg_read_all_stats" in told["fix"]
    finally:
        await store.close()
        await restricted.dispose()
        async with engine.begin() as connection:
            await connection.execute(text("DROP OWNED BY outbox_relay"))
            await connection.execute(text("DROP ROLE outbox_relay"))


@pytest.mark.integration
@pytest.mark.parametrize(("zone", "works"), [("UTC", True), ("Europe/Stockholm", False)])
async def test_naive_times_need_utc(postgres_database: str, zone: str, works: bool) -> None:  # noqa: FBT001
    """Where times repeat once a year there is no strict order, and the error says what to set."""
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": zone}})
    async with engine.begin() as connection:
        for statement in VARIANTS["naive times, JSONB, server-side id"].split(";"):
            await connection.execute(text(statement))
    repository = PostgreSQLOutboxRepository(engine, "svc")
    row = await repository.add_event(aggregate_id="k", **ADD)
    store = repository.batch_store(strict_order_limit_seconds=10.0)
    if works:
        assert await _fetch(store) == [row]
    else:
        with pytest.raises(StrictOrderError, match=r"Europe/Stockholm.*'timezone': 'UTC'"):
            await _fetch(store)
    await store.close()
    await engine.dispose()


async def test_a_repository_of_ones_own_cannot_be_strict() -> None:
    """The relay refuses to start rather than promise what six methods cannot keep."""
    relay = EventRelayWorker(Repository(), Publisher(), OutboxSettings(strict_order=True), "svc")
    with pytest.raises(ValueError, match=r"strict_order.*Repository.*PostgreSQLOutboxRepository"):
        await relay.start()


@pytest.mark.integration
async def test_the_gate_costs_one_statement(engine: AsyncEngine, strict: PostgreSQLBatchStore) -> None:
    """A strict batch reads the writers, and then the rows."""
    await _fetch(strict)
    statements: list[str] = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *call: statements.append(call[2]))
    await _fetch(strict)
    assert ["pg_locks" in one for one in statements] == [True, False]


# --- any interleaving

STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "commit", "rollback", "fetch"]), st.integers(0, 2), st.sampled_from("ab")),
    min_size=4,
    max_size=24,
)


async def _play(engine: AsyncEngine, steps: list[tuple[str, int, str]], *, strict: bool) -> list[UUID]:
    """Run the steps of three sessions; the events in the order in which a relay would send them."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    store = repository.batch_store(strict_order_limit_seconds=60.0) if strict else repository.batch_store()
    sessions = [AsyncSession(engine) for _ in range(3)]
    sent: list[UUID] = []

    async def send() -> None:
        events = await store.fetch(limit=100, max_retries=5, held_keys=[], held_topics=[])
        sent.extend(one.id for one in events)
        await store.settle(published=events, failed=[], max_retries=5)

    for what, who, key in steps:
        if what == "add":
            await _add(repository, sessions[who], key)
        elif what == "fetch":
            await send()
        else:
            await getattr(sessions[who], what)()
    for session in sessions:
        await session.commit()
        await session.close()
    await send()
    await store.close()
    return sent


async def _stored(engine: AsyncEngine) -> list[tuple[UUID, str]]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT id, aggregate_id FROM event_outbox ORDER BY created_at, id"))
        return [(UUID(str(row_id)), key) for row_id, key in rows]


@pytest.mark.integration
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_interleaving_keeps_every_keys_order(postgres_database: str, steps: list[tuple[str, int, str]]) -> None:
    """Whatever three sessions do, strictly each key's events are sent in the order of their insertion, all of them."""

    async def run() -> None:
        engine = await _fresh(postgres_database)
        sent = await _play(engine, steps, strict=True)
        stored = await _stored(engine)
        for key in "ab":
            expected = [row_id for row_id, one in stored if one == key]
            assert [row_id for row_id in sent if row_id in set(expected)] == expected
        await engine.dispose()

    asyncio.run(run())


@pytest.mark.integration
def test_the_property_can_fail(postgres_database: str) -> None:
    """The same steps without strict mode do send a key's events out of order."""
    steps = [("add", 0, "a"), ("add", 1, "a"), ("commit", 1, "a"), ("fetch", 0, "a"), ("commit", 0, "a")]

    async def run() -> tuple[list[UUID], list[UUID]]:
        engine = await _fresh(postgres_database)
        sent = await _play(engine, steps, strict=False)
        stored = [row_id for row_id, _ in await _stored(engine)]
        await engine.dispose()
        return sent, stored

    sent, stored = asyncio.run(run())
    assert sent == stored[::-1]


async def _write(engine: AsyncEngine, writer: int, transactions: int) -> None:
    """Transactions of one to three events on two keys, each open for a moment; some are rolled back."""
    chance = random.Random(writer)  # noqa: S311  # repeatable, not secret
    repository = PostgreSQLOutboxRepository(engine, "svc")
    for _ in range(transactions):
        async with AsyncSession(engine) as session:
            for _ in range(chance.randint(1, 3)):
                await _add(repository, session, chance.choice("ab"))
                await asyncio.sleep(chance.random() * 0.01)
            await (session.rollback if chance.random() < 0.2 else session.commit)()


async def _out_of_order(engine: AsyncEngine, *, strict: bool) -> tuple[int, int]:
    """Send while six writers write; how many events, and how many of them left behind a younger one of their key."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    store = repository.batch_store(strict_order_limit_seconds=60.0) if strict else repository.batch_store()
    writers = asyncio.gather(*(_write(engine, number, 25) for number in range(6)))
    sent: list[OutboxEvent] = []
    last_look = False
    while not last_look:
        last_look = writers.done()
        events = await store.fetch(limit=20, max_retries=5, held_keys=[], held_topics=[])
        sent.extend(events)
        await store.settle(published=events, failed=[], max_retries=5)
        last_look = last_look and not events
    await writers
    await store.close()
    late = 0
    for key in "ab":
        places = [(one.created_at, one.id) for one in sent if one.aggregate_id == key]
        late += sum(place < max(places[:index]) for index, place in enumerate(places) if index)
    return len(sent), late


@pytest.mark.integration
async def test_many_writers_at_once(engine: AsyncEngine) -> None:
    """Six writers whose transactions overlap all the time: strictly no event leaves behind a younger one, none is missing."""
    sent, late = await _out_of_order(engine, strict=True)
    async with engine.connect() as connection:
        stored = await connection.scalar(text("SELECT count(*) FROM event_outbox"))
    assert (sent, late) == (stored, 0)
    assert sent > 100


async def _fresh(address: str) -> AsyncEngine:
    engine = create_async_engine(address)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text("DELETE FROM event_outbox"))
    return engine
