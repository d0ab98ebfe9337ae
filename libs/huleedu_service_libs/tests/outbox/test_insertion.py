"""Events on their way into the table: order, one statement, and what a refused one costs."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from common_core import EventEnvelope
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.outbox.manager import NewEvent, OutboxManager
from huleedu_service_libs.outbox.models import EventOutbox
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from ..databases import statements_of
from .rows import ADD, count_rows, publish_one

pytestmark = pytest.mark.integration


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
    assert await count_rows(engine) == 0


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
    assert await count_rows(engine) == 2


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
    with statements_of(engine) as seen:
        yield seen


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
        await publish_one(manager, session)
        assert [statement.split()[0] for statement in statements_seen] == ["INSERT"]
        await manager.publish_many_to_outbox(_new_events(500), session=session)
        assert [statement.split()[0] for statement in statements_seen] == ["INSERT", "INSERT"]
        assert await count_rows(engine) == 0
        await session.commit()
    assert await count_rows(engine) == 501


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
    assert await count_rows(engine) == 1
