"""A breaker in the hands of people and listeners: isolated, forced, told and asked."""

import json
from datetime import timedelta

import pytest

from common_core import CircuitBreakerState
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError
from huleedu_service_libs.resilience.policy import BreakerPolicy, CountWindow
from huleedu_service_libs.resilience.states import StateChange

from .test_circuit_breaker import CLOSED, HALF_OPEN, OPEN, fails, make, succeed
from .times import Time


async def test_isolated_and_forced_by_hand() -> None:
    """Isolated refuses whatever time passes; forced closed lets everything through; reset ends both."""
    time = Time()
    breaker = make(time)
    breaker.isolate()
    time.passes(1e6)
    with pytest.raises(CircuitBreakerError, match="is OPEN") as refusal:
        await breaker.call(succeed)
    assert refusal.value.retry_after is None
    assert breaker.retry_after() == float("inf")
    breaker.force_closed()
    await fails(breaker, 50)
    assert breaker.state is CLOSED
    breaker.reset()
    await fails(breaker, 3)
    assert breaker.state is OPEN


async def test_listeners_are_told_and_cannot_harm() -> None:
    """Each change once, with its reason; a listener that raises affects nothing."""
    time = Time()
    changes: list[StateChange] = []

    def bad(_: StateChange) -> None:
        raise RuntimeError("listener")

    breaker = make(time, success_threshold=1, listeners=[bad, changes.append])
    await fails(breaker, 3)
    time.passes(10)
    await breaker.call(succeed)
    assert [(change.old, change.new, change.reason) for change in changes] == [
        (CLOSED, OPEN, "failures"),
        (OPEN, HALF_OPEN, "trial"),
        (HALF_OPEN, CLOSED, "recovered"),
    ]
    assert (changes[0].failure_count, changes[0].open_seconds) == (3, 10)


def test_the_state_says_its_value() -> None:
    """What is shown is the services' value."""
    breaker = CircuitBreaker(name="x", recovery_timeout=timedelta(seconds=1))
    assert repr(breaker) == "CircuitBreaker(name='x', state='closed', failure_count=0)"
    assert CircuitBreakerState(breaker.get_state()["state"]) is CLOSED


async def test_a_listener_may_act_on_the_breaker() -> None:
    """What it decides in the middle of a change stands: isolated at the first trial lets nothing through, then or later."""
    time = Time()

    def isolate_at_the_trial(change: StateChange) -> None:
        if change.new is CircuitBreakerState.HALF_OPEN:
            breaker.isolate()

    breaker = CircuitBreaker(1, timedelta(seconds=1), clock=time, now=time.now, listeners=[isolate_at_the_trial])
    with pytest.raises(OSError, match="down"):
        await breaker.call(_down)
    time.passes(2)
    for _ in range(3):
        with pytest.raises(CircuitBreakerError):
            await breaker.call(_down)
    assert breaker.state is CircuitBreakerState.OPEN


async def _down() -> None:
    raise OSError("down")


async def test_a_slow_call_under_a_hold_opens_nothing() -> None:
    """Forced closed stays closed, whatever a window of slow calls would say."""
    time = Time()
    window = CountWindow(size=2, minimum_calls=1, slow_rate=0.5)
    policy = BreakerPolicy(window=window, slow_call_s=1)
    breaker = CircuitBreaker(clock=time, now=time.now, policy=policy)
    breaker.force_closed()
    for _ in range(5):
        await breaker.call(lambda: time.passes(5))
    assert breaker.state is CircuitBreakerState.CLOSED


def test_it_says_why_and_since_when() -> None:
    """Reason, time and hold of the latest change, in a form that JSON takes."""
    time = Time()
    breaker = CircuitBreaker(name="b", clock=time, now=time.now)
    assert (breaker.describe()["reason"], breaker.describe()["since"]) == (None, None)
    time.passes(5)
    breaker.isolate()
    told = breaker.describe()
    assert (told["reason"], told["hold"], told["retry_after_seconds"]) == ("held", "isolated", None)
    assert told["since"] == time.now().isoformat()
    breaker.reset()
    assert (breaker.describe()["reason"], breaker.describe()["hold"]) == ("reset", None)
    json.dumps(breaker.describe())
