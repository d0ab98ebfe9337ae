"""Sections 9.1 and 9.2: the circuit breaker as a state machine, and its spans."""

import asyncio
import importlib
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs import resilience
from huleedu_service_libs.resilience import (
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerRegistry,
    circuit_breaker,
)
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

CLOSED, OPEN, HALF_OPEN = CircuitBreakerState.CLOSED, CircuitBreakerState.OPEN, CircuitBreakerState.HALF_OPEN
SOON = timedelta(seconds=0.2)


@pytest.mark.parametrize("wanted", signatures(9), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


async def fine() -> str:
    """A call that goes well."""
    return "fine"


async def failing() -> None:
    """A call that fails as expected."""
    raise ConnectionError("away")


async def odd() -> None:
    """A call that fails in another way."""
    raise KeyError("odd")


def make(**options: Any) -> CircuitBreaker:
    """A breaker of two failures and two successes."""
    return CircuitBreaker(
        **{
            "failure_threshold": 2,
            "recovery_timeout": SOON,
            "success_threshold": 2,
            "expected_exception": ConnectionError,
            "name": "b",
            **options,
        }
    )


async def fail(breaker: CircuitBreaker, times: int = 1) -> None:
    """So many expected failures."""
    for _ in range(times):
        with pytest.raises(ConnectionError):
            await breaker.call(failing)


async def half_open() -> CircuitBreaker:
    """A breaker after its first trial call has gone well."""
    breaker = make()
    await fail(breaker, 2)
    await asyncio.sleep(SOON.total_seconds() * 1.2)
    await breaker.call(fine)
    return breaker


@pytest.mark.contract("9-exports")
def test_what_the_package_exports() -> None:
    """Seven names, the breaker by both paths."""
    names = "CircuitBreaker CircuitBreakerError CircuitBreakerState circuit_breaker CircuitBreakerRegistry"
    for name in (*names.split(), "CircuitBreakerHttpClient", "CircuitBreakerContentServiceClient"):
        assert hasattr(resilience, name)
    # Looked up by its path: the package has a function of the module's name.
    assert importlib.import_module("huleedu_service_libs.resilience.circuit_breaker").CircuitBreaker is CircuitBreaker
    assert resilience.CircuitBreakerState is CircuitBreakerState


@pytest.mark.contract("9.1-error", "9.1-text", "9.2-open-blocks")
async def test_what_an_open_breaker_raises() -> None:
    """The contract's text with the name and the time of the last failure; the function does not run."""
    assert issubclass(CircuitBreakerError, Exception)
    now = datetime.now().astimezone()
    assert CircuitBreakerError("m", now).last_failure_time == now
    assert CircuitBreakerError(message="m").last_failure_time is None
    breaker, work = make(recovery_timeout=timedelta(seconds=60)), AsyncMock()
    await fail(breaker, 2)
    with pytest.raises(CircuitBreakerError) as caught:
        await breaker.call(work)
    assert str(caught.value) == "Circuit breaker 'b' is OPEN"
    assert caught.value.last_failure_time == breaker.last_failure_time
    assert breaker.last_failure_time is not None
    work.assert_not_called()


@pytest.mark.contract("9.2-default-names", "9.2-attributes")
def test_attributes() -> None:
    """As given, and names where none are given."""
    given: dict[str, Any] = {
        "failure_threshold": 3,
        "recovery_timeout": timedelta(seconds=7),
        "success_threshold": 4,
        "expected_exception": ConnectionError,
        "name": "n",
        "metrics": Mock(),
        "service_name": "svc",
    }
    breaker = CircuitBreaker(**given)
    assert {name: getattr(breaker, name) for name in given} == given
    assert (breaker.state, breaker.failure_count, breaker.success_count) == (CLOSED, 0, 0)
    assert breaker.last_failure_time is None
    assert hasattr(breaker.tracer, "start_as_current_span")
    plain = CircuitBreaker()
    assert (plain.name, plain.service_name) == ("circuit_breaker", "unknown")


class Caller:
    """What can be called in several ways."""

    async def method(self, a: int, b: int = 0) -> int:
        """A bound coroutine method."""
        return a + b

    def plain(self, a: int, b: int = 0) -> int:
        """A bound plain method."""
        return a + b

    async def __call__(self, a: int, b: int = 0) -> int:
        return a + b


KINDS: dict[str, Callable[..., Any]] = {
    "method": Caller().method,
    "plain": Caller().plain,
    "object": Caller(),
    "partial": partial(Caller().method),
    "lambda": lambda a, b: a + b,
    "AsyncMock": AsyncMock(side_effect=lambda a, b: a + b),
    "Mock": Mock(side_effect=lambda a, b: a + b),
}


@pytest.mark.contract("9.2-call-kinds", "9.2-call-arguments")
@pytest.mark.parametrize("kind", KINDS)
async def test_whatever_can_be_called(kind: str) -> None:
    """Its result comes back, awaited where it can be; arguments go through."""
    assert await make().call(KINDS[kind], 1, b=2) == 3


@pytest.mark.contract("9.2-get-state", "9.2-reset")
async def test_the_state_told_and_reset() -> None:
    """Five keys, JSON in all; a reset forgets everything."""
    breaker = make()
    nothing = {"name": "b", "state": "closed", "failure_count": 0, "success_count": 0, "last_failure_time": None}
    assert breaker.get_state() == nothing
    await fail(breaker, 2)
    state = breaker.get_state()
    assert (state["state"], state["failure_count"], set(state)) == ("open", 2, set(nothing))
    assert datetime.fromisoformat(state["last_failure_time"]).tzinfo is not None
    breaker.reset()
    assert breaker.get_state() == nothing
    assert await breaker.call(fine) == "fine"


@pytest.mark.contract("9.2-closed-counts", "9.2-closed-opens")
async def test_closed() -> None:
    """Failures add up, a success forgets them, the threshold opens and the count stays."""
    breaker = make(failure_threshold=3)
    await fail(breaker, 2)
    assert (breaker.state, breaker.failure_count) == (CLOSED, 2)
    await breaker.call(fine)
    assert breaker.failure_count == 0
    await fail(breaker, 3)
    assert (breaker.state, breaker.failure_count) == (OPEN, 3)


@pytest.mark.contract("9.2-open-recovers", "9.2-open-blocks")
async def test_open() -> None:
    """Blocked until the time is over; then the call runs, in half-open, with counters from zero."""
    breaker, seen = make(), []
    await fail(breaker, 2)
    with pytest.raises(CircuitBreakerError):
        await breaker.call(fine)
    await asyncio.sleep(SOON.total_seconds() * 1.2)

    async def look() -> None:
        seen.append((breaker.state, breaker.failure_count, breaker.success_count))

    await breaker.call(look)
    assert seen == [(HALF_OPEN, 0, 0)]
    assert (breaker.state, breaker.success_count) == (HALF_OPEN, 1)


@pytest.mark.contract("9.2-open-without-failure")
async def test_open_without_a_failure() -> None:
    """Nothing says how long to wait: the call is a trial."""
    breaker = make()
    breaker.state = OPEN
    assert breaker.last_failure_time is None
    assert (await breaker.call(fine), breaker.state) == ("fine", HALF_OPEN)


@pytest.mark.contract("9.2-half-open-closes")
async def test_half_open_closes() -> None:
    """With the second success, and failures count from zero again."""
    breaker = await half_open()
    await breaker.call(fine)
    assert (breaker.state, breaker.failure_count) == (CLOSED, 0)


@pytest.mark.contract("9.2-half-open-reopens")
async def test_half_open_opens_again() -> None:
    """With the first failure, and it blocks anew."""
    breaker = await half_open()
    await fail(breaker)
    assert breaker.state is OPEN
    with pytest.raises(CircuitBreakerError):
        await breaker.call(fine)


@pytest.mark.contract("9.2-other-exceptions", "9.2-same-exception")
async def test_exceptions_that_nobody_expected() -> None:
    """They pass and change nothing, closed or half-open; any exception is the very one that was raised."""
    for breaker in (make(), await half_open()):
        before = breaker.get_state()
        for _ in range(3):
            with pytest.raises(KeyError):
                await breaker.call(odd)
        assert breaker.get_state() == before
    error = ConnectionError("x")
    with pytest.raises(ConnectionError) as caught:
        await make().call(AsyncMock(side_effect=error))
    assert caught.value is error


@pytest.mark.contract("9.2-assign-open", "9.2-assign-half-open")
async def test_assigned_states() -> None:
    """As two services' tests do it: blocked, tried once the naive time is old, and counted as half-open."""
    breaker = make(recovery_timeout=timedelta(seconds=30))
    breaker.state = OPEN
    breaker.last_failure_time = datetime.now()  # noqa: DTZ005
    with pytest.raises(CircuitBreakerError):
        await breaker.call(fine)
    assert breaker.get_state()["state"] == "open"
    breaker.last_failure_time = datetime.now() - timedelta(seconds=31)  # noqa: DTZ005
    assert (await breaker.call(fine), breaker.state) == ("fine", HALF_OPEN)
    other = make()
    other.state = HALF_OPEN
    for state in (HALF_OPEN, CLOSED):
        await other.call(fine)
        assert other.state is state
    other.state = HALF_OPEN
    await fail(other)
    assert other.state is OPEN


async def _spans(work: Callable[[CircuitBreaker], Any]) -> list[ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("around"):
        await work(make(tracer=tracer))
    return list(exporter.get_finished_spans())


@pytest.mark.contract("9.2-span", "9.2-span-blocked")
async def test_spans() -> None:
    """One for each call, with five attributes; a blocked one marks the span around it."""

    async def work(breaker: CircuitBreaker) -> None:
        await breaker.call(fine)
        await fail(breaker, 2)
        with pytest.raises(CircuitBreakerError):
            await breaker.call(fine)

    *calls, around = await _spans(work)
    assert [span.name for span in calls] == ["circuit_breaker.b.fine", *["circuit_breaker.b.failing"] * 2]
    attributes = [dict(span.attributes or {}) for span in calls]
    assert [one["circuit.call_result"] for one in attributes] == ["success", "failure", "failure"]
    first = {"circuit.name": "b", "circuit.state": "closed", "circuit.failure_count": 0, "circuit.success_count": 0}
    assert first.items() <= attributes[0].items()
    assert (around.attributes or {})["circuit.blocked"] is True


@pytest.mark.contract("9.2-without-loop", "9.3-falsy")
def test_made_without_a_loop() -> None:
    """In a thread that has none; used later in a loop of its own."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.extend([make(), CircuitBreakerRegistry()]))
    thread.start()
    thread.join(10)
    breaker, registry = made
    assert asyncio.run(breaker.call(fine)) == "fine"
    assert (len(registry), bool(registry)) == (0, False)


@pytest.mark.contract("9.2-decorator")
async def test_the_decorator() -> None:
    """A breaker for each function, named after module and function; methods and sync functions, too."""

    @circuit_breaker(failure_threshold=1, expected_exception=ConnectionError)
    async def first() -> None:
        await failing()

    @circuit_breaker(failure_threshold=1, name="own")
    def second() -> None:
        raise ConnectionError

    class Client:
        @circuit_breaker(failure_threshold=1)
        async def ask(self, number: int) -> int:
            return number

    assert first.__name__ == "first"
    with pytest.raises(ConnectionError):
        await first()
    with pytest.raises(CircuitBreakerError, match=f"'{__name__}.first' is OPEN"):
        await first()
    with pytest.raises(ConnectionError):
        second()
    with pytest.raises(CircuitBreakerError, match="'own' is OPEN"):
        second()
    assert await Client().ask(7) == 7
