"""Every event has one effect in PostgreSQL, whatever crashes between the steps and whatever Redis forgets.

Hypothesis interleaves deliveries of a few events on real transactions: duplicates at
the same time, handlers that fail, sessions that are cut off before the commit, a Redis
that is emptied. The model is the set of events whose transaction was committed.
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from huleedu_service_libs.inbox import Inbox, InboxConfig
from huleedu_service_libs.inbox.models import Base
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime
from libs.huleedu_service_libs.tests.inbox.events import add_effect, effects, event

pytestmark = pytest.mark.integration

MOST_WORKERS = 5
NAMES = st.sampled_from(["a", "b", "c"])
WHICH = st.integers(min_value=0, max_value=20)
ENDS = st.sampled_from(["commit", "commit", "fail", "crash", "cancel"])


class CrashError(Exception):
    """What the test's worker dies of."""


class Worker:
    """One delivery: its handler has had its effect and waits for how it is to end."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.end: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[Any] | None = None
        self.in_handler = False

    async def handle(self, msg: Any, session: AsyncSession) -> None:
        """Have an effect, wait, and end as told."""
        await add_effect(msg, session)
        self.in_handler = True
        end = await asyncio.shield(self.end)
        if end == "fail":
            raise CrashError(end)
        if end == "crash":  # the server ends the session: what was not committed is gone
            pid = await session.scalar(text("SELECT pg_backend_pid()"))
            async with ADMIN[0].connect() as connection:
                await connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})


ADMIN: list[Any] = []


class Deliveries(RuleBasedStateMachine):
    """Workers of one consumer on one table."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.engine = create_async_engine(self.url, pool_size=12)
        ADMIN[:] = [self.engine]
        self.redis = FakeRedis(FakeTime())
        self.inbox = Inbox(
            async_sessionmaker(self.engine), InboxConfig(consumer="c", claim_timeout_s=60), redis=self.redis.port()
        )
        self.workers: list[Worker] = []
        self.delivered: set[str] = set()
        self._do(self._empty())

    async def _empty(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text("TRUNCATE event_inbox, effects"))

    def _do(self, step: Any) -> Any:
        return self.loop.run_until_complete(step)

    async def _settle(self) -> None:
        """Until every worker waits for its end or for another's transaction, or is done."""
        for _ in range(5000):  # seconds on a machine that others load, and a replay must not differ
            await asyncio.sleep(0.002)
            busy = [w for w in self.workers if w.task is not None and not w.task.done()]
            waiting = sum(w.in_handler and not w.end.done() for w in busy)
            if waiting + await self._blocked() >= len(busy):
                return

    async def _blocked(self) -> int:
        async with self.engine.connect() as connection:
            query = (
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event = 'transactionid' AND datname = current_database()"
            )
            return int(await connection.scalar(text(query)) or 0)

    async def _start(self, names: list[str]) -> None:
        worker = Worker(names)
        self.workers.append(worker)
        messages = [event(name, key=name) for name in names]
        worker.task = asyncio.ensure_future(self._deliver(worker, messages))
        await self._settle()

    async def _deliver(self, worker: Worker, messages: list[Any]) -> None:
        try:
            if len(messages) == 1:
                await self.inbox.process(messages[0], lambda session: worker.handle(messages[0], session))
            else:
                await self.inbox.process_many(messages, worker.handle)
        except Exception:  # noqa: BLE001  # what a consumer would see; the delivery comes again
            return

    def _all_busy(self) -> bool:
        """Asked within the rules: a precondition would ask the database's mood, and no replay could follow."""
        return sum(w.task is not None and not w.task.done() for w in self.workers) >= MOST_WORKERS

    @rule(name=NAMES)
    def deliver(self, name: str) -> None:
        """A worker receives the event, perhaps not for the first time."""
        if self._all_busy():
            return
        self.delivered.add(name)
        self._do(self._start([name]))

    @rule(names=st.permutations(["a", "b", "c"]))
    def deliver_batch(self, names: list[str]) -> None:
        """A worker receives several events at once."""
        if self._all_busy():
            return
        self.delivered.update(names)
        self._do(self._start(names))

    @rule(which=WHICH, end=ENDS)
    def handler_ends(self, which: int, end: str) -> None:
        """A running handler succeeds, fails, is cancelled, or its session is cut before the commit."""
        ready = [w for w in self.workers if w.in_handler and not w.end.done()]
        if not ready:
            return
        worker = ready[which % len(ready)]

        async def finish() -> None:
            if end == "cancel":
                assert worker.task is not None
                worker.task.cancel()
            worker.end.set_result(end)
            await self._settle()

        self._do(finish())

    @rule()
    def redis_forgets(self) -> None:
        """Redis is emptied."""
        self.redis.values.clear()

    @invariant()
    def nothing_is_done_twice(self) -> None:
        """No event has had two committed effects, and each that has had one is recorded."""
        assert self._do(self._recorded()) == set(done := self._do(effects(self.engine)))
        assert all(count == 1 for count in done.values())

    async def _recorded(self) -> set[str]:
        async with self.engine.connect() as connection:
            ids = set((await connection.execute(text("SELECT event_id::text FROM event_inbox"))).scalars())
        return {name for name in "abc" if dict(event(name).headers)["event_id"].decode() in ids}

    def teardown(self) -> None:
        """Delivered once more, every event has had its effect exactly once."""

        async def finish() -> None:
            for worker in self.workers:
                if not worker.end.done():
                    worker.end.set_result("commit")
            await asyncio.wait_for(
                asyncio.gather(*(w.task for w in self.workers if w.task), return_exceptions=True), 60
            )
            for name in sorted(self.delivered):
                message = event(name, key=name)
                await self.inbox.process(message, partial(add_effect, message))
            assert await effects(self.engine) == Counter(self.delivered)
            await self.engine.dispose()

        try:
            self._do(finish())
        finally:
            self.loop.close()


def test_deliveries(postgres_database: str) -> None:
    """Whatever the order of deliveries, failures, crashes and amnesia: one effect for each event."""

    async def prepare() -> None:
        engine = create_async_engine(postgres_database)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.execute(text("CREATE TABLE effects (event text NOT NULL)"))
        await engine.dispose()

    asyncio.run(prepare())
    machine = type("OnDatabase", (Deliveries,), {"url": postgres_database})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=25, stateful_step_count=15, deadline=None, print_blob=True)
    )
