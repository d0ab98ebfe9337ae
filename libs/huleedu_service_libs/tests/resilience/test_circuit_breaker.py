"""The breaker as services know it: constructor, attributes, transitions, texts."""

import asyncio
import functools
import inspect
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from common_core import CircuitBreakerState
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError, circuit_breaker
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker as SameBreaker

from .times import Time

CLOSED, OPEN, HALF_OPEN = CircuitBreakerState.CLOSED, CircuitBreakerState.OPEN, CircuitBreakerState.HALF_OPEN


async def succeed(value: int = 1) -> int:
    """A call that goes well."""
    return value


async def fail() -> None:
    """A call that goes wrong."""
    raise ValueError("no")


async def fails(breaker: CircuitBreaker, times: int = 1) -> None:
    """Failing calls through the breaker."""
    for _ in range(times):
        with pytest.raises(ValueError, match="no"):
            await breaker.call(fail)


def make(time: Time, **options: Any) -> CircuitBreaker:
    """A breaker in test time: three failures open it for ten seconds."""
    arguments: dict[str, Any] = {
        "failure_threshold": 3,
        "recovery_timeout": timedelta(seconds=10),
        "name": "db",
        "clock": time,
        "now": time.now,
    }
    return CircuitBreaker(**{**arguments, **options})


def test_defaults_need_no_event_loop() -> None:
    """The services' defaults, constructed outside a loop and without tracing."""
    breaker = CircuitBreaker()
    assert SameBreaker is CircuitBreaker
    assert (breaker.failure_threshold, breaker.success_threshold) == (5, 2)
    assert breaker.recovery_timeout == timedelta(seconds=60)
    assert (breaker.name, breaker.service_name) == ("circuit_breaker", "unknown")
    assert breaker.expected_exception is Exception
    assert breaker.metrics is None
    assert breaker.tracer is not None
    assert breaker.get_state() == {
        "name": "circuit_breaker",
        "state": "closed",
        "failure_count": 0,
        "success_count": 0,
        "last_failure_time": None,
    }


async def test_opens_after_failures_in_a_row_only() -> None:
    """A success forgets failures; the threshold opens and keeps the count; then nothing runs."""
    time = Time()
    breaker = make(time)
    await fails(breaker, 2)
    assert await breaker.call(succeed, 7) == 7
    assert breaker.failure_count == 0
    await fails(breaker, 3)
    assert breaker.state is OPEN
    assert breaker.failure_count == 3
    func = AsyncMock()
    with pytest.raises(CircuitBreakerError, match=r"^Circuit breaker 'db' is OPEN$") as refusal:
        await breaker.call(func)
    func.assert_not_called()
    assert refusal.value.last_failure_time == breaker.last_failure_time == time.now()
    assert refusal.value.retry_after == breaker.retry_after() == 10
    assert breaker.get_state()["last_failure_time"] == time.now().isoformat()


async def test_half_open_closes_after_successes_and_opens_on_one_failure() -> None:
    """The open time over, trial calls decide; counters start anew in half-open."""
    time = Time()
    breaker = make(time)
    await fails(breaker, 3)
    time.passes(10)
    await breaker.call(succeed)
    assert (breaker.state, breaker.failure_count, breaker.success_count) == (HALF_OPEN, 0, 1)
    await fails(breaker)
    assert breaker.state is OPEN
    time.passes(9.9)
    with pytest.raises(CircuitBreakerError):
        await breaker.call(succeed)
    time.passes(0.1)
    await breaker.call(succeed)
    await breaker.call(succeed)
    assert (breaker.state, breaker.failure_count, breaker.success_count) == (CLOSED, 0, 0)


@pytest.mark.parametrize("moment", [datetime.now, lambda: datetime.now(UTC)], ids=["naive local", "aware"])
async def test_assigned_state_and_time_drive_it(moment: Any) -> None:
    """Tests of services assign OPEN and a naive local time: blocked, until that time is old enough."""
    breaker = CircuitBreaker(recovery_timeout=timedelta(seconds=60), name="x")
    breaker.state = OPEN
    breaker.last_failure_time = moment()
    with pytest.raises(CircuitBreakerError, match="is OPEN"):
        await breaker.call(succeed)
    breaker.last_failure_time = moment() - timedelta(seconds=61)
    await breaker.call(succeed)
    assert (breaker.state, breaker.success_count) == (HALF_OPEN, 1)


async def test_open_without_a_recorded_failure_tries_at_once() -> None:
    """OPEN assigned, and no failure known: the next call is a trial."""
    breaker = CircuitBreaker(success_threshold=1)
    breaker.state = OPEN
    await breaker.call(succeed)
    assert breaker.state is CLOSED


async def test_an_assigned_half_open_counts_as_such() -> None:
    """HALF_OPEN assigned: one failure opens."""
    breaker = CircuitBreaker()
    breaker.state = HALF_OPEN
    await fails(breaker)
    assert breaker.state is OPEN


async def test_thresholds_may_be_assigned() -> None:
    """What the constructor took may be changed later, in an opening under way as well."""
    breaker = CircuitBreaker()
    breaker.failure_threshold = 1
    await fails(breaker)
    breaker.recovery_timeout = timedelta(0)
    breaker.success_threshold = 1
    await breaker.call(succeed)
    assert breaker.state is CLOSED


async def test_unexpected_exceptions_change_nothing_and_free_their_trial() -> None:
    """They pass unchanged; in half-open the next call is a trial again, however often."""
    time = Time()
    breaker = make(time, expected_exception=ValueError, success_threshold=1)
    error = KeyError("other")
    for _ in range(5):
        with pytest.raises(KeyError) as raised:
            await breaker.call(AsyncMock(side_effect=error))
        assert raised.value is error
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)
    breaker.state = HALF_OPEN
    for _ in range(5):
        with pytest.raises(KeyError):
            await breaker.call(AsyncMock(side_effect=error))
    assert breaker.state is HALF_OPEN
    await breaker.call(succeed)
    assert breaker.state is CLOSED


async def test_reset() -> None:
    """Closed, zero, no last failure."""
    breaker = make(Time())
    await fails(breaker, 3)
    breaker.reset()
    assert (breaker.state, breaker.failure_count, breaker.last_failure_time) == (CLOSED, 0, None)
    assert await breaker.call(succeed) == 1


class Service:
    """Callables of several kinds."""

    async def method(self, value: int) -> int:
        return value

    async def __call__(self, value: int) -> int:
        return value

    def returns_an_awaitable(self, value: int) -> "asyncio.Future[int]":
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(value)
        return future


@pytest.mark.parametrize(
    "func",
    [
        succeed,
        functools.partial(succeed),
        functools.partial(functools.partial(succeed)),
        Service().method,
        Service(),
        Service().returns_an_awaitable,
        lambda value: value,
        AsyncMock(side_effect=lambda value: value),
        Mock(side_effect=lambda value: value),
    ],
    ids=["function", "partial", "nested partial", "method", "object", "future", "sync", "async mock", "mock"],
)
async def test_calls_whatever_can_be_called(func: Any) -> None:
    """Functions, methods, partials, objects and mocks, sync and async, also in a span."""
    assert await CircuitBreaker().call(func, 3) == 3
    assert await CircuitBreaker(tracer=Mock(**{"start_as_current_span.return_value": _Context()})).call(func, 3) == 3


class _Context(Mock):
    def __enter__(self) -> Mock:
        return Mock()

    def __exit__(self, *_: object) -> None:
        return None


async def test_decorator() -> None:
    """One breaker a function, named after it; sync and async functions stay what they are, with their names."""

    @circuit_breaker(failure_threshold=1, expected_exception=ValueError)
    async def fetch(value: int) -> int:
        """Fetch."""
        if value < 0:
            raise ValueError("no")
        return value

    @circuit_breaker(failure_threshold=1, name="counting")
    def count(value: int) -> int:
        if value < 0:
            raise ValueError("no")
        return value

    assert (fetch.__name__, fetch.__doc__, count.__name__) == ("fetch", "Fetch.", "count")
    assert inspect.iscoroutinefunction(fetch)
    assert await fetch(1) == count(1) == 1
    with pytest.raises(ValueError, match="no"):
        await fetch(-1)
    with pytest.raises(CircuitBreakerError, match=r"test_circuit_breaker\.fetch"):
        await fetch(1)
    with pytest.raises(ValueError, match="no"):
        count(-1)
    with pytest.raises(CircuitBreakerError, match="'counting' is OPEN"):
        count(1)


def test_sync_decorator_without_a_loop() -> None:
    """A sync function needs no event loop."""

    @circuit_breaker()
    def one() -> int:
        return 1

    assert one() == 1


async def test_decorated_method() -> None:
    """A method is bound as usual."""

    class Client:
        @circuit_breaker(failure_threshold=2)
        async def get(self, value: int) -> int:
            return value

    assert await Client().get(4) == 4


async def test_context_manager() -> None:
    """A block is a call: its exceptions count, and open circuits refuse the block."""
    breaker = make(Time(), failure_threshold=2)
    with pytest.raises(ValueError, match="no"):
        async with breaker.guard():
            await fail()
    with pytest.raises(ValueError, match="no"), breaker.guard():
        raise ValueError("no")
    assert breaker.state is OPEN
    entered = False
    with pytest.raises(CircuitBreakerError):
        async with breaker.guard():
            entered = True
    assert not entered


def test_the_error_travels() -> None:
    """The refusal survives pickling, takes its arguments by name and says that it may be tried again."""
    error = CircuitBreakerError("Circuit breaker 'x' is OPEN", last_failure_time=datetime(2026, 1, 1, tzinfo=UTC))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert str(copy) == "Circuit breaker 'x' is OPEN"
    assert copy.last_failure_time == error.last_failure_time
    assert copy.retriable
