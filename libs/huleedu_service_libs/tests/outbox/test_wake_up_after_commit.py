"""The wake-up leaves with the commit that shows the event, and with nothing else."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

from ..waiting import until
from .rows import count_rows, publish_one

pytestmark = pytest.mark.integration


@pytest.fixture(name="redis")
def _redis() -> AsyncMock:
    return AsyncMock(spec=AtomicRedisClientProtocol)


async def test_the_relay_is_woken_after_the_commit(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """Nothing is sent inside the transaction; the commit sends one token, however many events it stored."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await publish_one(manager, session)
        await publish_one(manager, session)
        redis.lpush.assert_not_called()
        await session.commit()
        await until(lambda: redis.lpush.called)
        redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")
        await publish_one(manager, session)
        await session.commit()
        await until(lambda: redis.lpush.call_count == 2)


async def test_a_rollback_wakes_nobody(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """A rolled-back transaction sends no token, and a later empty commit of the session neither."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await publish_one(manager, session)
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
            await publish_one(manager, session)
        await asyncio.sleep(0.02)
        redis.lpush.assert_not_called()
        await session.commit()
        await until(lambda: redis.lpush.called)


async def test_a_given_up_savepoint_keeps_the_wake_up(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """What was stored before the savepoint is committed, so the relay is woken for it."""
    manager = OutboxManager(repository, redis, "svc")
    async with AsyncSession(engine) as session:
        await publish_one(manager, session)
        with pytest.raises(KeyError):
            async with session.begin_nested():
                raise KeyError
        await session.commit()
        redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")  # asked for when the commit returns


async def test_without_a_session_the_event_is_stored_and_the_relay_woken(
    repository: PostgreSQLOutboxRepository, engine: AsyncEngine, redis: AsyncMock
) -> None:
    """A transaction of its own, committed when the call returns."""
    await publish_one(OutboxManager(repository, redis, "svc"))
    assert await count_rows(engine) == 1
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")
