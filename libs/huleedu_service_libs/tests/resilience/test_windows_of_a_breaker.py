"""What opens a circuit besides failures in a row: rates in windows, and slow calls."""

from huleedu_service_libs.resilience.policy import BreakerPolicy, CountWindow, TimeWindow

from .test_circuit_breaker import CLOSED, OPEN, fails, make, succeed
from .times import Time


async def test_count_window_opens_on_the_rate() -> None:
    """Four of five failing never makes three in a row of failures needed; the rate opens all the same."""
    breaker = make(Time(), failure_threshold=100, policy=BreakerPolicy(window=CountWindow(size=10, minimum_calls=10)))
    for _ in range(5):
        await breaker.call(succeed)
    await fails(breaker, 4)
    assert breaker.state is CLOSED
    await fails(breaker)
    assert breaker.state is OPEN


async def test_count_window_forgets_old_calls() -> None:
    """Only the last ``size`` calls count."""
    breaker = make(Time(), policy=BreakerPolicy(window=CountWindow(size=4, minimum_calls=4, failure_rate=0.75)))
    await fails(breaker, 2)
    for _ in range(4):
        await breaker.call(succeed)
    await fails(breaker, 2)
    assert breaker.state is CLOSED
    await fails(breaker)
    assert breaker.state is OPEN


async def test_time_window_needs_calls_and_forgets_with_time() -> None:
    """Below the minimum nothing is decided; failures older than the window no longer count."""
    time = Time()
    breaker = make(time, policy=BreakerPolicy(window=TimeWindow(seconds=10, minimum_calls=4)))
    await fails(breaker, 3)
    time.passes(11)
    await fails(breaker, 3)
    assert breaker.state is CLOSED
    time.passes(5)
    await fails(breaker)
    assert breaker.state is OPEN


async def test_slow_calls_are_failures() -> None:
    """A success that takes too long counts as a failure."""
    time = Time()
    breaker = make(time, failure_threshold=2, policy=BreakerPolicy(slow_call_s=1))

    async def slow() -> str:
        time.passes(1.5)
        return "late"

    assert await breaker.call(slow) == "late"
    assert breaker.failure_count == 1
    await breaker.call(slow)
    assert breaker.state is OPEN


async def test_slow_rate_of_a_window() -> None:
    """With a rate of its own, slowness opens apart from failures."""
    time = Time()
    window = CountWindow(size=4, minimum_calls=4, failure_rate=1, slow_rate=0.5)
    breaker = make(time, policy=BreakerPolicy(window=window, slow_call_s=1))

    async def take(seconds: float) -> None:
        time.passes(seconds)

    for seconds in (0.1, 2, 0.1):
        await breaker.call(take, seconds)
    assert breaker.state is CLOSED
    await breaker.call(take, 2)
    assert breaker.state is OPEN
