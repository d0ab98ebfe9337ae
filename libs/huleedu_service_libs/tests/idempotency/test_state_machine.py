"""Every event has one effect, in whatever order duplicates, workers and failures meet.

Hypothesis decides which delivery takes its next step. The steps are the calls
of Redis and the end of each handler, so all interleavings can occur; the model
is the set of events that have had their effect. On clients with scripts Redis'
replies may get lost, too.
"""

import asyncio
import json
from collections import Counter
from functools import partial
from typing import Any, ClassVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from huleedu_service_libs.idempotency_v2 import (
    EventInProgressError,
    IdempotencyConfig,
    InProgressPolicy,
    idempotent_consumer,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

EVENTS = st.sampled_from(["a", "b", "c"])
WHICH = st.integers(min_value=0, max_value=20)
OUTCOMES = st.sampled_from(["effect", "raise", "cancel", "effect-then-raise"])


class Gate:
    """Lets one waiting coroutine pass at a time."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[str]] = []

    async def passed(self) -> str:
        """Wait for one's turn; what the machine says then."""
        turn: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            return await turn
        finally:
            if turn in self.waiting:
                self.waiting.remove(turn)

    def let_pass(self, which: int, word: str = "") -> None:
        """Give one of those waiting its turn."""
        self.waiting.pop(which % len(self.waiting)).set_result(word)


class Deliveries(RuleBasedStateMachine):
    """Workers deliver three events again and again."""

    redis_type: ClassVar[type[FakeRedis]] = FakeRedis
    policy: ClassVar[InProgressPolicy] = "skip"

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.time = FakeTime()
        self.calls, self.handlers = Gate(), Gate()
        self.running: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.delivered: set[str] = set()
        self.cancelled: set[str] = set()
        self.tasks: list[asyncio.Task[Any]] = []
        self.reply_lost = False
        self.redis = redis = self.redis_type(self.time)
        enter = redis._enter

        async def gated(*call: Any) -> None:
            await self.calls.passed()
            await enter(*call)

        redis._enter = gated  # type: ignore[method-assign]
        self.decorate = partial(
            idempotent_consumer,
            redis.port(),
            IdempotencyConfig("svc", in_progress=self.policy),
            now=self.time.now,
            clock=self.time.clock,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        if seconds > 10:  # renewal: no time passes while a handler runs
            await asyncio.Event().wait()
        await self.calls.passed()

    async def _handle(self, msg: Any, *, event: str, confirm_idempotency: Any) -> None:
        self.running[event] += 1
        try:
            word = await self.handlers.passed()
        finally:
            self.running[event] -= 1
        if word == "cancel":
            self.cancelled.add(event)  # keeps its claim: how far the handler came is unknown
            raise asyncio.CancelledError
        if word == "raise":
            raise RuntimeError(word)
        self.effects[event] += 1
        await confirm_idempotency()
        if word == "effect-then-raise":
            raise RuntimeError(word)

    def _settle(self) -> None:
        async def turns() -> None:
            for _ in range(12):  # more than any chain of wake-ups between two gates
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    @rule(event=EVENTS)
    def deliver(self, event: str) -> None:
        """A worker receives the event, perhaps not for the first time."""
        self.delivered.add(event)
        consume = self.decorate()(self._handle)
        self.tasks.append(self.loop.create_task(self._quietly(consume(create_test_message(event), event=event))))
        self._settle()

    @staticmethod
    async def _quietly(delivery: Any) -> None:
        try:
            await delivery
        except (RuntimeError, asyncio.CancelledError, EventInProgressError):
            return

    @precondition(lambda self: self.calls.waiting)
    @rule(which=WHICH)
    def redis_answers(self, which: int) -> None:
        """One of the calls under way is carried out."""
        self.calls.let_pass(which)
        self._settle()

    @precondition(lambda self: self.handlers.waiting)
    @rule(which=WHICH, outcome=OUTCOMES)
    def handler_ends(self, which: int, outcome: str) -> None:
        """One of the running handlers has its effect, fails or is cancelled."""
        self.handlers.let_pass(which, outcome)
        self._settle()

    @precondition(lambda self: isinstance(self.redis, ScriptedRedis) and not self.reply_lost)
    @rule(script=st.sampled_from(["claim", "confirm", "release", "renew"]))
    def a_reply_will_be_lost(self, script: str) -> None:
        """Redis will carry out a command and nobody will hear of it; once in a busy period, or it is an outage."""
        assert isinstance(self.redis, ScriptedRedis)
        self.reply_lost = True
        self.redis.losing = [script]

    @precondition(lambda self: all(task.done() for task in self.tasks))
    @rule()
    def claims_expire(self) -> None:
        """While nobody works, the claims of cancelled handlers end."""
        self.time.seconds += 301
        self.cancelled.clear()
        self.reply_lost = False

    @invariant()
    def nobody_works_twice(self) -> None:
        """An event is processed by one worker at a time, and has one effect."""
        assert all(count <= 1 for count in self.running.values())
        assert all(count <= 1 for count in self.effects.values())

    @invariant()
    def failures_give_back(self) -> None:
        """While nobody works, only the events of cancelled handlers are claimed."""
        if not all(task.done() for task in self.tasks):
            return
        stored = [json.loads(text) for text, ends in self.redis.values.values() if ends > self.time.seconds]
        assert {record["event_id"] for record in stored if record["status"] == "processing"} <= self.cancelled

    def _finish(self) -> None:
        for _ in range(500):
            if all(task.done() for task in self.tasks):
                return
            if self.handlers.waiting:
                self.handlers.let_pass(0, "effect")
            elif self.calls.waiting:
                self.calls.let_pass(0)
                self.time.seconds += 1  # so that waiting ends
            self._settle()
        raise AssertionError("deliveries do not end")

    def teardown(self) -> None:
        """Whatever happened: delivered once more, every event has had its effect exactly once."""
        self._finish()
        self.failures_give_back()
        self.claims_expire()
        for event in sorted(self.delivered):
            self.deliver(event)
        self._finish()
        leftover = asyncio.all_tasks(self.loop)
        self.loop.close()
        assert not leftover
        assert self.effects == Counter(self.delivered)


class WaitingDeliveries(Deliveries):
    """The same, with workers that wait for each other."""

    policy: ClassVar[InProgressPolicy] = "wait"


class OwnedDeliveries(Deliveries):
    """The same, on a client with scripts."""

    redis_type: ClassVar[type[FakeRedis]] = ScriptedRedis


class WaitingOwnedDeliveries(WaitingDeliveries):
    """Both."""

    redis_type: ClassVar[type[FakeRedis]] = ScriptedRedis


SETTINGS = settings(max_examples=60, stateful_step_count=40, deadline=None)
for machine in (Deliveries, WaitingDeliveries, OwnedDeliveries, WaitingOwnedDeliveries):
    machine.TestCase.settings = SETTINGS

TestDeliveries = Deliveries.TestCase
TestWaitingDeliveries = WaitingDeliveries.TestCase
TestOwnedDeliveries = OwnedDeliveries.TestCase
TestWaitingOwnedDeliveries = WaitingOwnedDeliveries.TestCase
