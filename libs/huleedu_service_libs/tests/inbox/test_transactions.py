"""Handlers that end the inbox' transaction, or break it and go on: nothing of that may pass for processed."""

import pickle
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from huleedu_service_libs.inbox import Inbox, InboxConfig, InboxRecord, InboxTransactionError
from huleedu_service_libs.inbox.events import inbox_event
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime
from libs.huleedu_service_libs.tests.inbox.events import add_effect, effects, event, rows

pytestmark = pytest.mark.integration

Sessions = async_sessionmaker[AsyncSession]
Misdeed = Callable[[AsyncSession], Awaitable[None]]

CONFIG = InboxConfig(consumer="svc.misdeeds")


async def _commits(session: AsyncSession) -> None:
    await session.commit()


async def _rolls_back(session: AsyncSession) -> None:
    await session.rollback()


async def _swallows_an_error(session: AsyncSession) -> None:
    with suppress(DBAPIError):
        await session.execute(text("SELECT 1 / 0"))


async def _swallows_a_refused_flush(session: AsyncSession) -> None:
    session.add(InboxRecord(consumer="c" * 200, event_id=inbox_event(event("x"), with_payload_hash=False).id))
    with suppress(DBAPIError):
        await session.flush()


MISDEEDS = {
    "called commit()": _commits,
    "called rollback()": _rolls_back,
    "went on after an error of the database": _swallows_an_error,
    "went on after an error of the database, of a flush": _swallows_a_refused_flush,
}
each_misdeed = pytest.mark.parametrize(("told", "misdeed"), MISDEEDS.items(), ids=MISDEEDS)


@each_misdeed
async def test_a_transaction_that_was_not_left_to_the_inbox_records_nothing(
    sessions: Sessions, engine: AsyncEngine, told: str, misdeed: Misdeed
) -> None:
    """The error says what the handler did; no row, no effect and no mark in Redis is left, and the next delivery runs."""
    redis = FakeRedis(FakeTime()).port()
    inbox = Inbox(sessions, CONFIG, redis=redis)

    async def run(session: AsyncSession) -> None:
        await add_effect(event("a"), session)
        await misdeed(session)

    with pytest.raises(
        InboxTransactionError, match=told.split(",", maxsplit=1)[0].replace("(", r"\(").replace(")", r"\)")
    ):
        await inbox.process(event("a"), run)
    assert (await rows(engine), await effects(engine)) == (0, {})
    assert await inbox.process(event("a"), lambda session: add_effect(event("a"), session)) == "done a"


@each_misdeed
async def test_others_of_the_batch_are_not_taken_along(
    sessions: Sessions, engine: AsyncEngine, told: str, misdeed: Misdeed
) -> None:
    """Whichever place in a batch it has, only the event whose handler did it fails; each other has its one effect."""
    inbox = Inbox(sessions, CONFIG)

    async def run(msg: Any, session: AsyncSession) -> None:
        await add_effect(msg, session)
        if msg.name.startswith("bad"):
            await misdeed(session)

    names = ["bad-1", "a", "b", "bad-2"]
    outcomes = await inbox.process_many([event(name, key=name) for name in names], run)
    assert [outcome.status for outcome in outcomes] == ["failed", "processed", "processed", "failed"]
    assert {type(outcome.error) for outcome in outcomes} == {InboxTransactionError, type(None)}, told
    assert (await rows(engine), await effects(engine)) == (2, {"a": 1, "b": 1})


async def test_a_savepoint_is_the_handlers_own(sessions: Sessions, engine: AsyncEngine) -> None:
    """What fails in a savepoint is undone to the savepoint, and the event counts as processed."""

    async def run(session: AsyncSession) -> str:
        with suppress(DBAPIError):
            async with session.begin_nested():
                await add_effect(event("undone"), session)
                await session.execute(text("SELECT 1 / 0"))
        async with session.begin_nested():
            return await add_effect(event("a"), session)

    assert await Inbox(sessions, CONFIG).process(event("a"), run) == "done a"
    assert (await rows(engine), await effects(engine)) == (1, {"a": 1})


async def test_what_runs_unprotected_is_told_too(sessions: Sessions, engine: AsyncEngine) -> None:
    """Where the inbox goes on without a claim, what a handler broke does not pass for done either."""
    inbox = Inbox(sessions, InboxConfig(consumer="svc.misdeeds", store_down="process"))

    async def out_of_reach(*_: Any) -> list[bool]:
        raise OSError("away")

    inbox._claims.take = out_of_reach  # type: ignore[method-assign,assignment]

    async def run(session: AsyncSession) -> None:
        await add_effect(event("a"), session)
        await _swallows_an_error(session)

    with pytest.raises(InboxTransactionError, match="went on"):
        await inbox.process(event("a"), run)
    assert await effects(engine) == {}


def test_the_error_survives_pickling() -> None:
    """It says the same in another process."""
    error = InboxTransactionError(consumer="c", did="called commit()")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301  # our own bytes
