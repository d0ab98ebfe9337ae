"""What the breaker offers beyond the services' constructor."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError
from huleedu_service_libs.resilience.errors import BulkheadFullError, CallTimeoutError
from huleedu_service_libs.resilience.policy import BreakerPolicy, CountWindow, Ramp, TimeWindow

from .test_circuit_breaker import CLOSED, HALF_OPEN, OPEN, fail, fails, make, succeed
from .times import Time


def opened_for(breaker: CircuitBreaker) -> float:
    """Seconds that the circuit stays open from now."""
    return round(breaker.retry_after(), 3)


async def _waiting_calls(
    breaker: CircuitBreaker, count: int
) -> tuple[asyncio.Event, list[asyncio.Task[Any]], list[int]]:
    go = asyncio.Event()
    reached: list[int] = []

    async def wait() -> None:
        reached.append(1)
        await go.wait()

    tasks = [asyncio.create_task(breaker.call(wait)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return go, tasks, reached


@pytest.mark.parametrize("permits", [1, 3])
async def test_half_open_lets_few_through_at_once(permits: int) -> None:
    """Of a thousand waiting callers only the permitted trial calls reach the dependency."""
    time = Time()
    breaker = make(time, policy=BreakerPolicy(half_open_permits=permits), success_threshold=5)
    await fails(breaker, 3)
    time.passes(10)
    go, tasks, reached = await _waiting_calls(breaker, 1000)
    assert len(reached) == permits
    go.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(each, CircuitBreakerError) for each in results) == 1000 - permits
    assert breaker.success_count == permits


async def test_by_default_there_are_as_many_permits_as_successes_needed() -> None:
    """The default bounds the trial calls as well."""
    breaker = make(Time())
    breaker.state = HALF_OPEN
    go, tasks, reached = await _waiting_calls(breaker, 1000)
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(reached) == 2
    assert breaker.state is CLOSED


async def test_a_cancelled_trial_gives_its_permit_back() -> None:
    """Cancellation says nothing: no failure, no success, and the next trial may go."""
    breaker = make(Time(), success_threshold=1)
    breaker.state = HALF_OPEN
    for _ in range(20):
        _, tasks, reached = await _waiting_calls(breaker, 1)
        assert len(reached) == 1
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (breaker.state, breaker.failure_count) == (HALF_OPEN, 0)
    await breaker.call(succeed)
    assert breaker.state is CLOSED


async def test_cancellation_never_opens() -> None:
    """Twenty cancelled calls leave a closed circuit closed."""
    breaker = make(Time())
    _, tasks, _ = await _waiting_calls(breaker, 20)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)


@pytest.mark.parametrize("then", [succeed, fail])
async def test_results_of_an_earlier_state_do_not_count(then: Callable[[], Awaitable[Any]]) -> None:
    """A call from before the opening neither closes the half-open circuit nor opens it again, nor extends the outage."""
    time = Time()
    breaker = make(time, success_threshold=1)
    go = asyncio.Event()

    async def old() -> Any:
        await go.wait()
        return await then()

    task = asyncio.create_task(breaker.call(old))
    await asyncio.sleep(0)
    await fails(breaker, 3)
    time.passes(5)
    last = breaker.last_failure_time
    breaker.state = HALF_OPEN
    go.set()
    await asyncio.gather(task, return_exceptions=True)
    assert (breaker.state, breaker.success_count, breaker.last_failure_time) == (HALF_OPEN, 0, last)


async def test_a_call_of_an_earlier_state_that_is_cancelled_frees_no_permit() -> None:
    """Only trials give one back: a call from before the opening has none."""
    time = Time()
    breaker = make(time, policy=BreakerPolicy(half_open_permits=1))
    _, old, _ = await _waiting_calls(breaker, 1)
    await fails(breaker, 3)
    time.passes(10)
    _, trial, reached = await _waiting_calls(breaker, 1)
    assert (breaker.state, len(reached)) == (HALF_OPEN, 1)
    old[0].cancel()
    await asyncio.gather(*old, return_exceptions=True)
    with pytest.raises(CircuitBreakerError):
        await breaker.call(succeed)
    trial[0].cancel()
    await asyncio.gather(*trial, return_exceptions=True)


async def test_the_last_failure_is_the_last_one() -> None:
    """Whether it opened the circuit, came before, or was a trial's."""
    time = Time()
    breaker = make(time)
    for seconds in (1, 2, 3, 10, 20):  # the third opens it, the others after that are trials
        time.passes(seconds)
        await fails(breaker)
        assert breaker.last_failure_time == time.now()
    assert breaker.state is OPEN


async def test_an_undecided_half_open_opens_again() -> None:
    """A trial that never comes back does not block the circuit for good."""
    time = Time()
    breaker = make(time, policy=BreakerPolicy(half_open_permits=1, half_open_limit_s=30))
    breaker.state = HALF_OPEN
    _, tasks, _ = await _waiting_calls(breaker, 1)
    time.passes(30)
    with pytest.raises(CircuitBreakerError):
        await breaker.call(succeed)
    assert breaker.state is OPEN
    time.passes(10)
    await breaker.call(succeed)
    assert breaker.state is HALF_OPEN
    tasks[0].cancel()


async def test_ramp_lets_a_growing_share_through() -> None:
    """After a recovery calls come back in steps, then all of them."""
    time = Time()
    breaker = make(time, success_threshold=1, policy=BreakerPolicy(ramp=Ramp(seconds=10, initial=0.1)))
    breaker.state = HALF_OPEN
    await breaker.call(succeed)
    passed = []
    for _ in range(10):
        count = 0
        for _ in range(100):
            try:
                await breaker.call(succeed)
            except CircuitBreakerError:
                continue
            count += 1
        passed.append(count)
        time.passes(1)
    assert passed == sorted(passed)
    assert 9 <= passed[0] <= 12
    assert 45 <= passed[4] <= 50
    assert 88 <= passed[9] <= 93
    for _ in range(100):
        await breaker.call(succeed)


async def test_open_time_grows_to_its_limit_and_a_recovery_ends_it() -> None:
    """Each opening without a recovery between lasts longer; a recovery starts from the beginning."""
    time = Time()
    breaker = make(time, success_threshold=1, policy=BreakerPolicy(open_growth=2, longest_open_s=50))
    await fails(breaker, 3)
    seen = [opened_for(breaker)]
    for _ in range(4):
        time.passes(breaker.retry_after())
        await fails(breaker)
        seen.append(opened_for(breaker))
    assert seen == [10, 20, 40, 50, 50]
    time.passes(50)
    await breaker.call(succeed)
    await fails(breaker, 3)
    assert opened_for(breaker) == 10


async def test_open_time_is_spread() -> None:
    """Jitter adds its share of the open time."""
    breaker = make(Time(), policy=BreakerPolicy(open_jitter=0.5), jitter=lambda: 0.4)
    await fails(breaker, 3)
    assert opened_for(breaker) == 12


async def test_what_never_reached_the_dependency_does_not_count_unless_asked() -> None:
    """Pool exhausted, refused by an inner guard: neutral by default."""

    class PoolTimeoutError(Exception):
        """Of some driver."""

    async def refuse(error: Exception) -> None:
        raise error

    full = BulkheadFullError("b", 1, 0)
    for counted, policy in (
        (0, BreakerPolicy(not_reached=(PoolTimeoutError,))),
        (2, BreakerPolicy(not_reached=(PoolTimeoutError,), count_not_reached=True)),
    ):
        breaker = make(Time(), policy=policy)
        for error in (PoolTimeoutError(), full):
            with pytest.raises(type(error)):
                await breaker.call(refuse, error)
        assert breaker.failure_count == counted


async def test_ignored_exceptions_predicates_and_results() -> None:
    """An expected exception may be ignored or judged; a result may be a failure and is returned."""
    policy = BreakerPolicy(
        ignored=(LookupError,),
        is_failure=lambda error: "no" in str(error),
        is_failure_result=lambda status: status == 503,
    )
    breaker = make(Time(), policy=policy)

    async def raise_(error: Exception) -> None:
        raise error

    for error in (KeyError("no"), ValueError("yes")):
        with pytest.raises(type(error)):
            await breaker.call(raise_, error)
    assert breaker.failure_count == 0
    await fails(breaker)
    assert await breaker.call(succeed, 503) == 503
    assert breaker.failure_count == 2
    assert await breaker.call(succeed, 200) == 200
    assert breaker.failure_count == 0


async def test_a_predicate_that_raises_leaves_no_trial_taken() -> None:
    """Its exception reaches the caller; the permit comes back."""

    def judge(status: int) -> bool:
        if status < 0:
            raise TypeError("what is that")
        return False

    breaker = make(Time(), success_threshold=1, policy=BreakerPolicy(is_failure_result=judge))
    breaker.state = HALF_OPEN
    for _ in range(3):
        with pytest.raises(TypeError):
            await breaker.call(succeed, -1)
    await breaker.call(succeed, 1)
    assert breaker.state is CLOSED


async def test_call_timeout_is_a_failure_whatever_is_expected() -> None:
    """Calls beyond the limit end with a time-out that counts; quick ones are left alone."""
    breaker = make(
        Time(), failure_threshold=4, expected_exception=ValueError, policy=BreakerPolicy(call_timeout_s=0.02)
    )
    forever = asyncio.Event()
    results = await asyncio.gather(
        *(breaker.call(forever.wait) for _ in range(3)),
        breaker.call(succeed, 5),
        return_exceptions=True,
    )
    assert [type(each) for each in results] == [CallTimeoutError] * 3 + [int]
    assert breaker.failure_count == 3
    with pytest.raises(TimeoutError, match=r"no answer within 0.02 s"):
        async with breaker.guard():
            await forever.wait()
    assert breaker.state is OPEN
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_what_swallows_the_time_limit_leaves_no_cancellation_behind() -> None:
    """A call that makes a result or another error of it ends as it likes; the task is not left half cancelled."""
    breaker = make(Time(), policy=BreakerPolicy(call_timeout_s=0.02))

    async def swallow(answer: Exception | str) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if isinstance(answer, Exception):
                raise answer from None
        return str(answer)

    assert await breaker.call(swallow, "late") == "late"
    with pytest.raises(ValueError, match="own"):
        await breaker.call(swallow, ValueError("own"))
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_cancellation_from_outside_is_no_timeout() -> None:
    """Somebody else's cancellation passes as what it is."""
    breaker = make(Time(), policy=BreakerPolicy(call_timeout_s=60))
    _, tasks, _ = await _waiting_calls(breaker, 1)
    tasks[0].cancel()
    (result,) = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(result, asyncio.CancelledError)
    assert breaker.failure_count == 0


def test_one_breaker_in_one_loop_after_another() -> None:
    """A breaker with a time limit, made outside, serves several loops in turn."""
    breaker = make(Time(), policy=BreakerPolicy(call_timeout_s=0.02))

    async def late() -> None:
        with pytest.raises(CallTimeoutError):
            await breaker.call(asyncio.Event().wait)

    asyncio.run(late())
    asyncio.run(late())
    assert breaker.failure_count == 2


async def test_a_thousand_tasks_at_once() -> None:
    """A thousand concurrent calls, half failing, are all counted and all come back."""
    breaker = make(Time(), failure_threshold=501)

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number % 2:
            raise ValueError("no")
        return number

    results = await asyncio.gather(*(breaker.call(work, n) for n in range(1000)), return_exceptions=True)
    assert sum(isinstance(each, ValueError) for each in results) == 500
    assert breaker.state is CLOSED


@pytest.mark.parametrize(
    "make_policy",
    [
        lambda: CountWindow(size=5, minimum_calls=10),
        lambda: CountWindow(failure_rate=0),
        lambda: TimeWindow(seconds=0),
        lambda: TimeWindow(minimum_calls=0),
        lambda: Ramp(seconds=1, initial=0),
        lambda: BreakerPolicy(slow_call_s=0),
        lambda: BreakerPolicy(open_growth=0.5),
    ],
    ids=range(7),
)
def test_senseless_figures_are_refused(make_policy: Callable[[], Any]) -> None:
    """A configuration checks itself."""
    with pytest.raises(ValueError, match=r"must|needs"):
        make_policy()
