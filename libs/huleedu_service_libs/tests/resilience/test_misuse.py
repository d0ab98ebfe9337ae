"""Guards under bad arguments and strange errors: refused at once with a reason, or survived; the call's own error always wins."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from common_core import CircuitBreakerState
from huleedu_service_libs._backoff import FULL_JITTER, grown, spread
from huleedu_service_libs.resilience import BreakerPolicy, CircuitBreaker, CircuitBreakerRegistry
from huleedu_service_libs.resilience.limits import Bulkhead, TimeLimit
from huleedu_service_libs.resilience.retry import Retry
from huleedu_service_libs.resilience.states import StateChange
from huleedu_service_libs.resilience.timers import SharedTimeLimit

from .times import Time


async def failing() -> None:
    """A call that fails."""
    raise ConnectionError("the call's own")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"failure_threshold": 0}, "'svc'.*failure_threshold=0 must be a whole number, at least 1"),
        ({"failure_threshold": "5"}, "failure_threshold='5' must be a whole number"),
        ({"success_threshold": -1}, "success_threshold=-1 must"),
        ({"recovery_timeout": 60}, r"recovery_timeout=60 must be a timedelta .* such as timedelta\(seconds=60\)"),
        ({"recovery_timeout": timedelta(seconds=-1)}, "not negative"),
    ],
)
def test_a_breaker_refuses_arguments_that_would_fail_in_an_outage(options: dict[str, Any], complaint: str) -> None:
    """The error names breaker, argument and value when it is built; none shows up in place of a failing call's error."""
    with pytest.raises(ValueError, match=complaint):
        CircuitBreaker(name="svc", **options)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: Retry(0), "attempts must be at least 1, got 0"),
        (lambda: Retry(factor=0.5), "factor must be at least 1, got 0.5"),
        (lambda: Retry(first_delay_s=-1), "first_delay_s must not be negative, got -1"),
        (lambda: Retry(jitter=2), r"jitter must lie in \[0, 1\], got 2"),
        (lambda: Bulkhead(0), "limit must be at least 1, got 0"),
        (lambda: Bulkhead(1, queue_size=-1), "queue_size must not be negative, got -1"),
        (lambda: Bulkhead(1, wait_s=float("nan")), "wait_s must be positive, got nan"),
        (lambda: TimeLimit(0), "seconds must be positive, got 0"),
    ],
)
def test_other_guards_name_what_is_wrong(make: Callable[[], object], complaint: str) -> None:
    """Each names the argument and its value."""
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize(
    "retry_after", ["Wed, 21 Oct 2026 07:28:00 GMT", timedelta(seconds=3), object(), -5, "nonsense"]
)
async def test_an_attribute_of_somebody_else_does_not_stop_a_retry(retry_after: object) -> None:
    """A ``retry_after`` that is no number of seconds is passed over; the last error is the call's own."""
    time, calls = Time(), 0

    class OddError(Exception):
        pass

    async def odd() -> None:
        nonlocal calls
        calls += 1
        error = OddError("the call's own")
        error.retry_after = retry_after  # type: ignore[attr-defined]  # what libraries do
        raise error

    with pytest.raises(OddError):
        await Retry(3, first_delay_s=0.1, jitter=0, sleep=time.sleep).call(odd)
    assert calls == 3
    assert time.slept == pytest.approx([0.1, 0.2])


async def test_thousands_of_attempts_wait_no_longer_than_the_longest() -> None:
    """Growth that no float can hold is the longest wait, not an error in place of the call's."""
    time = Time()
    with pytest.raises(ConnectionError, match="own"):
        await Retry(1200, first_delay_s=0.1, longest_delay_s=5, jitter=0, sleep=time.sleep).call(failing)
    assert (len(time.slept), max(time.slept)) == (1199, 5)


async def test_an_open_time_grows_to_its_limit_whatever_the_factor() -> None:
    """A circuit that never recovers opens for the longest time; the failing call's own error is raised."""
    time = Time()
    policy = BreakerPolicy(open_growth=1e9, longest_open_s=300)
    breaker = CircuitBreaker(1, timedelta(seconds=1), policy=policy, clock=time, now=time.now)
    for _ in range(80):
        time.passes(301)
        with pytest.raises(ConnectionError, match="own"):
            await breaker.call(failing)
    assert breaker.retry_after() == pytest.approx(300)


def test_back_off_is_bounded_and_spread() -> None:
    """It doubles up to its limit for any number of failures; chance takes no more than its share."""
    assert [grown(number, first=1, longest=10) for number in (1, 2, 3, 4, 5, 10**6)] == [1, 2, 4, 8, 10, 10]
    assert {grown(number, first=0, longest=10) for number in (1, 2, 10**6)} == {0}
    assert [spread(8, 0.0), spread(8, 0.5), spread(8, 0.999999)] == pytest.approx([4, 6, 8], abs=0.001)
    assert (spread(8, 0.25, FULL_JITTER), spread(8, 0.25, 0)) == (2, 8)


def test_resetting_all_survives_a_listener_that_registers() -> None:
    """Breakers that a change of state brings into the registry are no error for who resets them all."""
    registry = CircuitBreakerRegistry()

    def registers(change: StateChange) -> None:
        registry.register(f"born of {change.name}", CircuitBreaker())

    for name in ("a", "b"):
        registry.register(name, CircuitBreaker(name=name, listeners=[registers]))
        registry.get(name).state = CircuitBreakerState.OPEN  # type: ignore[union-attr]  # it is there
    registry.reset_all()
    assert {registry.get(name).state for name in ("a", "b")} == {CircuitBreakerState.CLOSED}  # type: ignore[union-attr]
    assert len(registry) == 4


async def test_a_limit_asked_for_outside_of_a_task_disturbs_nobody() -> None:
    """A callback of the loop is told that it needs a task; a call under way keeps its limit."""
    limit = SharedTimeLimit("svc", 0.05)
    complaints: list[str] = []

    def callback() -> None:
        try:
            limit.begin()
        except RuntimeError as error:
            complaints.append(str(error))

    watch = limit.begin()
    asyncio.get_running_loop().call_soon(callback)
    try:
        with pytest.raises(asyncio.CancelledError) as caught:
            await asyncio.sleep(30)
        assert "no answer within 0.05 s" in str(limit.explain(watch, caught.value))
    finally:
        limit.end(watch)
    assert complaints == ["svc: a time limit needs a task; run the call inside one"]
