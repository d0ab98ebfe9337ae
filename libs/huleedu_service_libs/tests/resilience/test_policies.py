"""Retry, budget, time limit, bulkhead, fallback, deadline: each alone and all together."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from common_core import CircuitBreakerState
from huleedu_service_libs.middleware.deadline import DeadlineMiddleware
from huleedu_service_libs.resilience import CircuitBreakerError
from huleedu_service_libs.resilience.budget import RetryBudget
from huleedu_service_libs.resilience.deadline import (
    DEADLINE_HEADER,
    check_deadline,
    deadline,
    deadline_headers,
    remaining,
    seconds_of,
)
from huleedu_service_libs.resilience.errors import BulkheadFullError, CallTimeoutError, DeadlineExceededError
from huleedu_service_libs.resilience.limits import Bulkhead, TimeLimit
from huleedu_service_libs.resilience.pipeline import Fallback, Pipeline
from huleedu_service_libs.resilience.retry import Retry

from .test_circuit_breaker import make
from .times import Time


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, error: Callable[[], Exception] = lambda: ConnectionError("no")) -> None:
        self.failures = failures
        self.error = error
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error()
        return "answer"


async def never() -> None:
    """A call that does not come back."""
    await asyncio.Event().wait()


async def test_retry_waits_longer_each_time_and_ends_with_the_answer() -> None:
    """Waits grow by the factor up to the longest, without jitter exactly."""
    time, flaky = Time(), Flaky(4)
    retry = Retry(5, first_delay_s=1, factor=3, longest_delay_s=10, jitter=0, sleep=time.sleep)
    assert await retry.call(flaky) == "answer"
    assert (flaky.calls, time.slept) == (5, [1, 3, 9, 10])


async def test_retry_raises_the_last_error_unchanged() -> None:
    """The attempts used up, the last error itself reaches the caller."""
    time = Time()
    errors = [ConnectionError(f"{number}") for number in range(3)]
    flaky = Flaky(3, lambda: errors[flaky.calls - 1])
    with pytest.raises(ConnectionError) as raised:
        await Retry(3, sleep=time.sleep).call(flaky)
    assert raised.value is errors[2]


async def test_jitter_spreads_the_wait() -> None:
    """Full jitter takes any part of it away."""
    time = Time()
    await Retry(2, first_delay_s=8, sleep=time.sleep, chance=lambda: 0.25).call(Flaky(1))
    assert time.slept == [2]


@pytest.mark.parametrize("error", [ValueError(), CircuitBreakerError("x is OPEN"), BulkheadFullError("b", 1, 0)])
async def test_what_is_not_worth_it_is_not_retried(error: Exception) -> None:
    """Other exceptions, and calls that never reached the dependency."""
    flaky = Flaky(1, lambda: error)
    with pytest.raises(type(error)):
        await Retry(5, on=(ConnectionError, CircuitBreakerError, BulkheadFullError)).call(flaky)
    assert flaky.calls == 1


async def test_retry_may_judge() -> None:
    """A predicate decides about an expected exception."""
    flaky = Flaky(1)
    with pytest.raises(ConnectionError):
        await Retry(5, retry_if=lambda error: "yes" in str(error)).call(flaky)
    assert flaky.calls == 1


async def test_a_budget_keeps_retries_from_multiplying_an_outage() -> None:
    """A thousand failing calls with three attempts each make a fifth more calls, not three times as many."""
    time = Time()
    budget = RetryBudget(ratio=0.2, per_second=0, most=10, clock=time)
    retry = Retry(3, sleep=time.sleep, budget=budget)
    flaky = Flaky(10_000)
    for _ in range(1000):
        with pytest.raises(ConnectionError):
            await retry.call(flaky)
    assert 1195 <= flaky.calls <= 1205
    assert budget.refused > 0


async def test_a_budget_allows_a_few_each_second() -> None:
    """Dependencies with few calls are retried all the same."""
    time = Time()
    budget = RetryBudget(ratio=0, per_second=1, clock=time)
    assert [budget.withdraw() for _ in range(3)] == [True, False, False]
    time.passes(2)
    assert [budget.withdraw() for _ in range(3)] == [True, True, False]


async def test_a_retry_does_not_wait_past_the_deadline() -> None:
    """When the wait would outlast it, the error is raised at once."""
    time, flaky = Time(), Flaky(5)
    with deadline(1), pytest.raises(ConnectionError):
        await Retry(5, first_delay_s=0.6, factor=2, jitter=0, sleep=time.sleep).call(flaky)
    assert (flaky.calls, time.slept) == (2, [0.6])


async def test_time_limit() -> None:
    """A call beyond it ends with a typed time-out; a time-out of the call's own stays its own."""
    limit = TimeLimit(0.02, name="db")
    with pytest.raises(CallTimeoutError, match=r"db: no answer within 0\.02 s"):
        await limit.call(never)
    own = TimeoutError("its own")
    with pytest.raises(TimeoutError) as raised:
        await limit.call(Flaky(1, lambda: own))
    assert raised.value is own
    assert await limit.call(Flaky(0)) == "answer"


async def test_time_limit_keeps_the_deadline_of_the_request() -> None:
    """A nearer deadline wins; one that has passed stops the call before it begins."""
    flaky = Flaky(0)
    with deadline(0.02), pytest.raises(DeadlineExceededError):
        await TimeLimit(60).call(never)
    with deadline(0), pytest.raises(DeadlineExceededError):
        await TimeLimit(60).call(flaky)
    with deadline(0), pytest.raises(DeadlineExceededError, match="step two"):
        check_deadline("step two")
    assert flaky.calls == 0


async def test_bulkhead_bounds_refuses_and_serves_in_order() -> None:
    """Two run, two wait in turn, the rest is refused."""
    bulkhead = Bulkhead(2, queue_size=2, wait_s=60)
    gates = [asyncio.Event() for _ in range(4)]
    order: list[int] = []

    async def work(number: int) -> int:
        order.append(number)
        await gates[number].wait()
        return number

    tasks = [asyncio.create_task(bulkhead.call(work, number)) for number in range(4)]
    await asyncio.sleep(0)
    assert (bulkhead.running, bulkhead.waiting) == (2, 2)
    with pytest.raises(BulkheadFullError, match="2 calls are under way, 2 wait"):
        await bulkhead.call(work, 0)
    tasks[2].cancel()
    gates[0].set()
    gates[1].set()
    gates[3].set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[number] for number in (0, 1, 3)] == [0, 1, 3]
    assert order == [0, 1, 3]
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


async def test_a_place_given_in_the_moment_of_cancellation_is_passed_on() -> None:
    """No place is ever lost."""
    bulkhead = Bulkhead(1, queue_size=5, wait_s=60)
    async with bulkhead:
        tasks = [asyncio.create_task(bulkhead.call(Flaky(0))) for _ in range(3)]
        await asyncio.sleep(0)
    tasks[0].cancel()  # it has just been given the place
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == ["answer", "answer"]
    assert bulkhead.running == 0


async def test_waiting_for_a_place_ends() -> None:
    """A place that does not come in time is a refusal."""
    bulkhead = Bulkhead(1, queue_size=1, wait_s=0.02)
    async with bulkhead:
        with pytest.raises(BulkheadFullError):
            await bulkhead.call(never)
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


@pytest.mark.parametrize("answer", ["other", lambda error: "other", Flaky(0)])
async def test_fallback(answer: Any) -> None:
    """A value or a function answers for the failure, and only for those named."""

    async def with_error(_: Exception) -> str:
        return "other"

    fallback = Fallback(with_error if isinstance(answer, Flaky) else answer, on=ConnectionError)
    assert await fallback.call(Flaky(1)) == "other"
    assert await fallback.call(Flaky(0)) == "answer"
    with pytest.raises(ValueError, match="no"):
        await fallback.call(Flaky(1, lambda: ValueError("no")))


async def test_all_together_in_their_order() -> None:
    """Every attempt counts in the breaker; an open breaker is not retried; a full bulkhead is no failure."""
    time = Time()
    breaker = make(time)
    bulkhead = Bulkhead(1)
    pipeline = Pipeline(
        fallback=Fallback(lambda error: type(error).__name__),
        retry=Retry(10, first_delay_s=0.1, jitter=0, sleep=time.sleep),
        breaker=breaker,
        bulkhead=bulkhead,
        time_limit=TimeLimit(60),
    )
    flaky = Flaky(100)
    assert await pipeline.call(flaky) == "CircuitBreakerError"
    assert (flaky.calls, breaker.state) == (3, CircuitBreakerState.OPEN)
    assert len(time.slept) == 3
    breaker.reset()
    async with bulkhead:
        assert await pipeline.protect(Flaky(0))() == "BulkheadFullError"
    assert breaker.failure_count == 0
    assert await pipeline.protect(Flaky(2))() == "answer"


async def test_a_deadline_nests_and_travels() -> None:
    """The nearest holds; the header carries what is left, and means the same on the other side."""
    assert remaining() is None
    assert deadline_headers() == {}
    with deadline(10), deadline(100), deadline(None):
        left = remaining()
        assert left is not None
        assert 9 < left <= 10
        headers = deadline_headers()
    assert remaining() is None
    assert 9000 <= int(headers[DEADLINE_HEADER]) <= 10_000
    assert seconds_of({DEADLINE_HEADER.lower(): "1500"}) == 1.5


@pytest.mark.parametrize("text", ["", "-5", "1e3", "soon", "٣", "999999999999"])
def test_nonsense_in_the_header_is_no_deadline(text: str) -> None:
    """What a client sends is not trusted."""
    assert seconds_of({DEADLINE_HEADER: text}) is None


@pytest.mark.parametrize(("sent", "status"), [("2000", 200), ("0", 504), (None, 200)])
async def test_the_deadline_is_honoured_downstream(sent: str | None, status: int) -> None:
    """The middleware opens it for the request, and answers 504 when nothing is left."""
    seen: list[float | None] = []
    messages: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(remaining())
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        messages.append(message)

    headers = [] if sent is None else [(DEADLINE_HEADER.lower().encode(), sent.encode())]
    await DeadlineMiddleware(app)({"type": "http", "headers": headers}, None, send)  # type: ignore[arg-type]  # not read
    assert messages[0]["status"] == status
    assert bool(seen) == (status == 200)
    if seen:
        assert (seen[0] is None) == (sent is None)


@pytest.mark.parametrize(
    "make_it",
    [lambda: Retry(0), lambda: RetryBudget(most=0), lambda: TimeLimit(0), lambda: Bulkhead(0)],
    ids=["retry", "budget", "time limit", "bulkhead"],
)
def test_senseless_figures_are_refused(make_it: Callable[[], Any]) -> None:
    """Each guard checks its own figures when it is made."""
    with pytest.raises(ValueError, match=r"must|positive"):
        make_it()
