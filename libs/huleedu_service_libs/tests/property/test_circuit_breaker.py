"""The breaker against a simple model with time, over any course of events."""

import asyncio
from datetime import timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from common_core import CircuitBreakerState
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError
from huleedu_service_libs.resilience.policy import BreakerPolicy

from ..resilience.times import Time

THRESHOLD, OPEN_SECONDS, SUCCESSES = 3, 10, 2


class Model:
    """The states as a person would write them down; ``period`` counts them."""

    def __init__(self, permits: int, growth: float) -> None:
        self.permits, self.growth = permits, growth
        self.state, self.period = "closed", 0
        self.failures = self.successes = self.trials = 0
        self.open_until = 0.0
        self.openings = 0

    def go(self, state: str) -> None:
        self.state, self.period, self.trials = state, self.period + 1, 0
        if state != "open":
            self.failures = self.successes = 0

    def open(self, now: float) -> None:
        self.open_until = now + min(OPEN_SECONDS * self.growth**self.openings, max(OPEN_SECONDS, 60))
        self.openings += 1
        self.go("open")

    def admits(self, now: float) -> bool:
        if self.state == "open" and now >= self.open_until:
            self.go("half_open")
        if self.state == "half_open" and self.trials < self.permits:
            self.trials += 1
            return True
        return self.state == "closed"

    def ends(self, period: int, how: str, now: float) -> None:
        if period != self.period:
            return
        if self.state == "half_open":
            self.trials -= 1
        if how == "failure":
            self.failures += 1
            if self.state == "half_open" or self.failures >= THRESHOLD:
                self.open(now)
        elif how == "success":
            self.failures = 0
            self.successes += self.state == "half_open"
            if self.successes >= SUCCESSES:
                self.openings = 0
                self.go("closed")


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin, end in any order and manner, while time passes and people intervene."""

    calls = Bundle("calls")

    @initialize(permits=st.integers(1, 3), growth=st.sampled_from([1.0, 2.0]))
    def begin(self, permits: int, growth: float) -> None:
        self.loop = asyncio.new_event_loop()
        self.time = Time()
        self.model = Model(permits, growth)
        self.breaker = CircuitBreaker(
            failure_threshold=THRESHOLD,
            recovery_timeout=timedelta(seconds=OPEN_SECONDS),
            success_threshold=SUCCESSES,
            expected_exception=ValueError,
            policy=BreakerPolicy(half_open_permits=permits, open_growth=growth, longest_open_s=60),
            clock=self.time,
            now=self.time.now,
        )

    def teardown(self) -> None:
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self._settle()
        self.loop.close()

    def _settle(self) -> None:
        for _ in range(4):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    @rule(target=calls)
    def start_a_call(self) -> Any:
        """Admitted or refused exactly as the model says."""
        end: asyncio.Future[None] = self.loop.create_future()
        reached: list[int] = []

        async def dependency() -> None:
            reached.append(1)
            await end

        async def call() -> str:
            try:
                await self.breaker.call(dependency)
            except CircuitBreakerError:
                return "refused"
            except (ValueError, KeyError):
                return "raised"
            return "returned"

        expected = self.model.admits(self.time.seconds)
        task = self.loop.create_task(call())
        self._settle()
        assert bool(reached) == expected
        if not expected:
            assert task.result() == "refused"
            return None
        return task, end, self.model.period

    @rule(call=consumes(calls), how=st.sampled_from(["success", "failure", "unexpected", "cancelled"]))
    def end_a_call(self, call: Any, how: str) -> None:
        """However it ends, state and counters follow the model."""
        if call is None:
            return
        task, end, period = call
        if how == "success":
            end.set_result(None)
        elif how == "cancelled":
            task.cancel()
        else:
            end.set_exception(ValueError() if how == "failure" else KeyError())
        self._settle()
        assert task.cancelled() or task.result() == ("returned" if how == "success" else "raised")
        self.model.ends(period, how, self.time.seconds)

    @rule(seconds=st.sampled_from([0.5, 3.0, 9.5, 10.0, 25.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.time.passes(seconds)

    @rule()
    def somebody_resets(self) -> None:
        self.breaker.reset()
        self.model.openings = 0
        self.model.go("closed")

    @rule(state=st.sampled_from(["closed", "half_open"]))
    def somebody_assigns(self, state: str) -> None:
        self.breaker.state = CircuitBreakerState(state)
        self.model.go(state)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        shown = self.breaker.get_state()
        assert (shown["state"], shown["failure_count"], shown["success_count"]) == (
            self.model.state,
            self.model.failures,
            self.model.successes,
        )
        if self.model.state == "open":
            assert abs(self.breaker.retry_after() - max(0.0, self.model.open_until - self.time.seconds)) < 1e-6


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=150, stateful_step_count=40)
