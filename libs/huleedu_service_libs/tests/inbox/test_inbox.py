"""The inbox on a real PostgreSQL: what is recorded is what was done."""

import asyncio
import json
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4

import pytest
from prometheus_client import REGISTRY
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.inbox import (
    Inbox,
    InboxBusyError,
    InboxConfig,
    InboxTableMissingError,
    PayloadMismatchError,
)
from huleedu_service_libs.inbox.events import inbox_event
from huleedu_service_libs.outbox import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.store_policy import StoreDownError, StoreDownPolicy
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime
from libs.huleedu_service_libs.tests.inbox.events import add_effect, effects, event, rows

pytestmark = pytest.mark.integration

Sessions = async_sessionmaker[AsyncSession]


class Nothing(BaseModel):
    """Data of an event that only has to exist."""


CONFIG = InboxConfig(consumer="svc.handler")


def _count(outcome: str) -> float:
    labels = {"consumer": "svc.handler", "outcome": outcome}
    return REGISTRY.get_sample_value("inbox_events_total", labels) or 0.0


def _handler(inbox: Inbox) -> Any:
    @inbox.handler
    async def handle(msg: Any, *, session: AsyncSession) -> str:
        """Handle."""
        return await add_effect(msg, session)

    return handle


# --- one event


async def test_a_duplicate_has_no_second_effect(sessions: Sessions, engine: AsyncEngine) -> None:
    """The handler's result comes back the first time, `None` for the same event afterwards; both are counted."""
    handle = _handler(Inbox(sessions, CONFIG))
    before = _count("processed"), _count("duplicate")
    assert [await handle(event("a")), await handle(event("a")), await handle(event("b"))] == ["done a", None, "done b"]
    assert await effects(engine) == {"a": 1, "b": 1}
    assert (_count("processed"), _count("duplicate")) == (before[0] + 2, before[1] + 1)
    assert (handle.__name__, handle.__doc__) == ("handle", "Handle.")


async def test_one_event_with_and_without_headers(sessions: Sessions, engine: AsyncEngine) -> None:
    """Unlike the keys in Redis, the inbox knows an event by its id, whether that comes in headers or body."""
    handle = _handler(Inbox(sessions, CONFIG))
    await handle(event("a", headers=True))
    assert await handle(event("a", headers=False)) is None
    assert await effects(engine) == {"a": 1}


async def test_a_failure_records_nothing(sessions: Sessions, engine: AsyncEngine) -> None:
    """What a handler raises comes out as it is; effect and row are rolled back, and the next delivery runs."""
    inbox = Inbox(sessions, CONFIG)
    error = ConnectionError("the handler's own")

    async def failing(session: AsyncSession) -> None:
        await add_effect(event("a"), session)
        raise error

    with pytest.raises(ConnectionError) as caught:
        await inbox.process(event("a"), failing)
    assert caught.value is error
    assert (await effects(engine), await rows(engine)) == ({}, 0)
    assert await _handler(inbox)(event("a")) == "done a"


async def test_cancellation_records_nothing(sessions: Sessions, engine: AsyncEngine) -> None:
    """A handler that is cancelled, as at a shutdown, has had no effect, and its event is free at once."""
    inbox, running = Inbox(sessions, CONFIG), asyncio.Event()

    async def slow(session: AsyncSession) -> None:
        await add_effect(event("a"), session)
        running.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(inbox.process(event("a"), slow))
    await running.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await effects(engine), await rows(engine)) == ({}, 0)
    assert await asyncio.wait_for(_handler(inbox)(event("a")), 10) == "done a"


async def test_consumers_process_independently(sessions: Sessions, engine: AsyncEngine) -> None:
    """Two handlers of one service take the same event, each once."""
    for consumer in ("svc.one", "svc.two", "svc.one"):
        await _handler(Inbox(sessions, InboxConfig(consumer=consumer)))(event("a"))
    assert await effects(engine) == {"a": 2}


async def test_the_handler_publishes_in_the_same_transaction(sessions: Sessions, engine: AsyncEngine) -> None:
    """An outbox event of a handler is committed with the inbox' row, and rolled back with it."""
    inbox = Inbox(sessions, CONFIG)
    manager = OutboxManager(PostgreSQLOutboxRepository(engine, "svc"), None, "svc")
    envelope: Any = EventEnvelope(event_type="out.v1", source_service="svc", correlation_id=uuid4(), data=Nothing())

    async def handle(session: AsyncSession, *, fails: bool) -> None:
        await manager.publish_to_outbox(
            aggregate_type="essay", aggregate_id="e", event_type="out.v1", event_data=envelope, topic="out",
            session=session,
        )  # fmt: skip
        if fails:
            raise RuntimeError("late")

    with pytest.raises(RuntimeError, match="late"):
        await inbox.process(event("a"), lambda session: handle(session, fails=True))
    for _ in range(2):
        await inbox.process(event("a"), lambda session: handle(session, fails=False))
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM event_outbox")) == 1


# --- concurrent duplicates


@pytest.mark.parametrize("first_commits", [True, False])
async def test_a_concurrent_duplicate_waits(sessions: Sessions, engine: AsyncEngine, *, first_commits: bool) -> None:
    """While another transaction has the event a second one waits, and then does what the first one's end says."""
    inbox = Inbox(sessions, CONFIG)
    async with sessions() as first, sessions() as second:
        assert await inbox.claim(first, event("a")) is True
        waiting = asyncio.ensure_future(inbox.claim(second, event("a")))
        for _ in range(200):
            if await _waiting_for_a_transaction(engine):
                break
            await asyncio.sleep(0.02)
        assert not waiting.done()
        await (first.commit() if first_commits else first.rollback())
        assert await asyncio.wait_for(waiting, 20) is not first_commits
        await second.commit()
    assert await rows(engine) == 1


async def _waiting_for_a_transaction(engine: AsyncEngine) -> bool:
    async with engine.connect() as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'transactionid'"
        return bool(await connection.scalar(text(query)))


async def test_a_hundred_deliveries_one_effect(sessions: Sessions, engine: AsyncEngine) -> None:
    """Of a hundred deliveries of one event at the same time one has an effect."""
    handle = _handler(Inbox(sessions, CONFIG))
    results = await asyncio.gather(*(handle(event("a")) for _ in range(100)))
    assert sorted(map(str, results)) == ["None"] * 99 + ["done a"]
    assert await effects(engine) == {"a": 1}


async def test_waiting_for_another_worker_is_bounded(sessions: Sessions) -> None:
    """Who has waited long enough is told whom to look for; the session is usable no longer, the pool is."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.handler", claim_timeout_s=0.2))
    async with sessions() as first:
        await inbox.claim(first, event("a"))
        with pytest.raises(InboxBusyError, match=r"'svc.handler' was not decided within 0\.2 s.*pg_stat_activity"):
            await _handler(inbox)(event("a"))
        await first.rollback()
    assert await _handler(inbox)(event("a")) == "done a"


# --- many at once


async def test_claim_many_says_which_are_new(sessions: Sessions) -> None:
    """One answer for each message in order; what stands twice in a batch is new once; an empty batch is none."""
    inbox = Inbox(sessions, CONFIG)
    async with sessions() as session, session.begin():
        assert await inbox.claim_many(session, [event("a"), event("b"), event("a")]) == [True, True, False]
        assert await inbox.claim_many(session, [event("c"), event("b")]) == [True, False]
        assert await inbox.claim_many(session, []) == []


async def test_overlapping_batches_do_not_deadlock(sessions: Sessions, engine: AsyncEngine) -> None:
    """Batches with the same events in opposite orders wait for each other and never in a circle."""
    inbox = Inbox(sessions, CONFIG)
    names = [f"e{n}" for n in range(60)]

    async def batch(order: list[str]) -> int:
        outcomes = await inbox.process_many([event(name) for name in order], add_effect)
        assert all(outcome.done for outcome in outcomes)
        return sum(outcome.status == "processed" for outcome in outcomes)

    done = await asyncio.gather(*(batch(names[n:] + names[:n] if n % 2 else names[::-1]) for n in range(12)))
    assert sum(done) == len(names)
    assert set((await effects(engine)).values()) == {1}


async def test_a_batch_is_one_transaction(sessions: Sessions, engine: AsyncEngine) -> None:
    """Results come in order, duplicates are passed over, and all rows have one transaction's time."""
    inbox = Inbox(sessions, CONFIG)
    await _handler(inbox)(event("b"))
    outcomes = await inbox.process_many([event(name) for name in "abcc"], add_effect)
    assert [outcome.status for outcome in outcomes] == ["processed", "duplicate", "processed", "duplicate"]
    assert [outcome.result for outcome in outcomes] == ["done a", None, "done c", None]
    assert await effects(engine) == {"a": 1, "b": 1, "c": 1}
    async with engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(DISTINCT processed_at) FROM event_inbox")) == 2


async def test_a_failure_in_a_batch_is_its_own(sessions: Sessions, engine: AsyncEngine) -> None:
    """The others of a batch are done; later events of the failed one's key wait, so that order holds."""
    inbox = Inbox(sessions, CONFIG)

    async def handle(msg: Any, session: AsyncSession) -> None:
        await add_effect(msg, session)
        if msg.name == "bad":
            raise RuntimeError("bad")

    batch = [event("a", key="1"), event("bad", key="2"), event("c", key="2"), event("d", key="3")]
    outcomes = await inbox.process_many(batch, handle)
    assert [outcome.status for outcome in outcomes] == ["processed", "failed", "held-back", "processed"]
    assert [outcome.done for outcome in outcomes] == [True, False, False, True]
    assert str(outcomes[1].error) == "bad"
    assert await effects(engine) == {"a": 1, "d": 1}


async def test_a_message_without_identity_fails_alone(sessions: Sessions, engine: AsyncEngine) -> None:
    """A body that says nothing is the fault of its message, not of the batch."""
    nothing = event("x", headers=False, key="x")
    nothing.value = b"no json"
    outcomes = await Inbox(sessions, CONFIG).process_many([nothing, event("a")], add_effect)
    assert [outcome.status for outcome in outcomes] == ["failed", "processed"]
    assert isinstance(outcomes[0].error, ValueError)
    assert await effects(engine) == {"a": 1}


# --- same id, other payload


@pytest.mark.parametrize("headers", [True, False])
async def test_an_id_used_twice_is_refused(sessions: Sessions, engine: AsyncEngine, *, headers: bool) -> None:
    """With the payload check a second event under the same id is no duplicate but an error that names the producer's."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.handler", check_payload=True))
    handle = _handler(inbox)
    await handle(event("a", headers=headers))
    assert await handle(event("a", headers=headers)) is None
    before = _count("mismatch")
    with pytest.raises(PayloadMismatchError, match=r"with other data.*used one id for two events") as caught:
        await handle(event("a", headers=headers, data={"other": 1}))
    assert (caught.value.event_type, _count("mismatch")) == ("test.v1", before + 1)
    assert await effects(engine) == {"a": 1}


async def test_an_id_used_twice_in_one_batch_is_refused(sessions: Sessions, engine: AsyncEngine) -> None:
    """The first of the two is processed, the second is told apart from a duplicate."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.handler", check_payload=True))
    batch = [event("a", key="1"), event("a", key="2", data={"other": 1}), event("a", key="3")]
    outcomes = await inbox.process_many(batch, add_effect)
    assert [outcome.status for outcome in outcomes] == ["processed", "failed", "duplicate"]
    assert isinstance(outcomes[1].error, PayloadMismatchError)
    assert await effects(engine) == {"a": 1}


def test_ids_that_are_no_uuid() -> None:
    """Any text is an id; without one the content is."""
    message = event("a", headers=False)
    message.value = json.dumps({"event_id": "order 7", "event_type": "t", "data": {}}).encode()
    by_text = inbox_event(message, with_payload_hash=False).id
    message.value = json.dumps({"event_type": "t", "data": {"n": 1}}).encode()
    by_content = inbox_event(message, with_payload_hash=False).id
    assert isinstance(by_text, UUID)
    assert len({by_text, by_content}) == 2
    assert inbox_event(message, with_payload_hash=True).payload_hash == ANY


# --- a store that is down


def _nowhere() -> Sessions:
    return async_sessionmaker(create_async_engine("postgresql+asyncpg://nobody@127.0.0.1:1/none"))


@pytest.mark.parametrize("policy", ["pause", "dead-letter"])
async def test_without_postgresql_the_handler_does_not_run(policy: StoreDownPolicy) -> None:
    """While PostgreSQL is away the consumer is told what the handler has declared, for one event and for a batch."""
    inbox = Inbox(_nowhere(), InboxConfig(consumer="svc.handler", store_down=policy))
    with pytest.raises(StoreDownError) as caught:
        await _handler(inbox)(event("a"))
    assert (caught.value.store, caught.value.policy) == ("postgresql", policy)
    outcomes = await inbox.process_many([event("a"), event("b")], add_effect)
    assert [(outcome.status, type(outcome.error)) for outcome in outcomes] == [("failed", StoreDownError)] * 2


async def test_a_handler_may_run_unprotected() -> None:
    """With `process` a handler that needs no database runs without its inbox, counted."""
    inbox = Inbox(_nowhere(), InboxConfig(consumer="svc.handler", store_down="process"))
    before = _count("unprotected")

    async def handle(_session: AsyncSession) -> str:
        return "sent"

    assert await inbox.process(event("a"), handle) == "sent"
    assert _count("unprotected") == before + 1


@pytest.mark.parametrize("policy", ["pause", "process"])
async def test_a_restarted_server_costs_nothing(
    sessions: Sessions, engine: AsyncEngine, postgres_database: str, policy: StoreDownPolicy
) -> None:
    """Connections of the pool that died unnoticed are no outage: the event is claimed on a new one, and protected."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.handler", store_down=policy))
    handle = _handler(inbox)
    before = _count("unprotected"), _count("store_down")
    await asyncio.gather(*(handle(event(f"warm-{n}")) for n in range(5)))
    admin = create_async_engine(postgres_database)
    async with admin.connect() as connection:
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
        await connection.execute(text(query))
    await admin.dispose()
    assert [await handle(event("a")), await handle(event("a"))] == ["done a", None]
    assert (await effects(engine))["a"] == 1
    assert (_count("unprotected"), _count("store_down")) == before


async def test_a_missing_table_says_how_to_make_it(postgres_database: str) -> None:
    """The first event on a database without the table names the helper of the migration; no policy hides it."""
    engine = create_async_engine(postgres_database)
    inbox = Inbox(async_sessionmaker(engine), InboxConfig(consumer="svc.handler", store_down="process"))
    with pytest.raises(InboxTableMissingError, match=r"create_inbox_table\(op\)"):
        await _handler(inbox)(event("a"))
    await engine.dispose()


@pytest.mark.parametrize(
    "wrong",
    [
        {"consumer": ""},
        {"consumer": "x" * 101},
        {"store_down": "hope"},
        {"claim_timeout_s": 0},
        {"fast_path_ttl_s": -1},
    ],
)
def test_config_checks_itself(wrong: dict[str, Any]) -> None:
    """A setting that makes no sense is refused by name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InboxConfig(**{"consumer": "c", **wrong})


# --- Redis in front (doubles; a real one in test_fast_path)


async def test_redis_that_forgets_changes_nothing(sessions: Sessions, engine: AsyncEngine) -> None:
    """An emptied Redis costs a query: the table still knows."""
    redis = FakeRedis(FakeTime())
    handle = _handler(Inbox(sessions, CONFIG, redis=redis.port()))
    assert await handle(event("a")) == "done a"
    assert await handle(event("a")) is None
    redis.values.clear()
    assert await handle(event("a")) is None
    assert await effects(engine) == {"a": 1}
