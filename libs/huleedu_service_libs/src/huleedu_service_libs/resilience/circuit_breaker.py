"""Circuit breaker: refuses calls to a dependency that keeps failing.

Services build one for each dependency, directly or in their containers. This module puts the parts
together and runs calls; ``_steps`` has the steps of a call, ``machine`` decides when a circuit opens and
closes, ``policy`` holds what can be configured.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import wraps
from inspect import iscoroutinefunction
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar, cast, overload

from opentelemetry.trace import Tracer

from common_core import CircuitBreakerState
from huleedu_service_libs import _clock
from huleedu_service_libs.resilience._guard import Guard
from huleedu_service_libs.resilience._reports import Listener
from huleedu_service_libs.resilience._spans import CallSpans
from huleedu_service_libs.resilience._steps import CallSteps
from huleedu_service_libs.resilience.errors import CircuitBreakerError
from huleedu_service_libs.resilience.machine import StateMachine
from huleedu_service_libs.resilience.metrics import CircuitBreakerMetrics
from huleedu_service_libs.resilience.policy import BreakerPolicy
from huleedu_service_libs.resilience.states import IS_OPEN, Hold
from huleedu_service_libs.resilience.timers import SharedTimeLimit

__all__ = ["CircuitBreaker", "CircuitBreakerError", "CircuitBreakerState", "circuit_breaker"]

P = ParamSpec("P")
T = TypeVar("T")

_NO_POLICY = BreakerPolicy()


class CircuitBreaker(CallSteps):
    """Runs calls and stops doing so while they keep failing.

    CLOSED lets every call through; ``failure_threshold`` failures in a row (or what the policy's
    window says) open it. OPEN refuses with `CircuitBreakerError` until ``recovery_timeout`` has
    passed since the failure that opened it. HALF_OPEN lets a few trial calls through:
    ``success_threshold`` successes close it, one failure opens it again.

    Failures are exceptions that ``expected_exception`` names, calls that take longer than the
    policy allows, and results that it rejects. Everything else passes and changes nothing:
    cancellation, other exceptions, and calls that never reached the dependency (`NotReachedError`).
    What a call raises is raised unchanged. Results of calls from an earlier state do not count.

    For one event loop at a time; needs none to be constructed.

    Args:
        failure_threshold: Failures in a row that open the circuit.
        recovery_timeout: How long it stays open.
        success_threshold: Successful trial calls that close it.
        expected_exception: What counts as a failure; a tuple works, too.
        name: Label in metrics, spans and texts.
        tracer: Makes a span for each call; by default the global one, once a tracer provider is set.
        metrics: Told of calls and states.
        service_name: Label in metrics.
        policy: Windows, slow calls, permits, ramp, growth, time limit.
        listeners: Called after each change of state; what they raise is logged and counted.
        clock: Monotonic seconds.
        now: The time of day.
        jitter: A number in [0, 1) at each call, spreads open times.

    Raises:
        ValueError: A threshold is less than 1, or ``recovery_timeout`` is negative.
    """

    def __init__(
        self,
        failure_threshold: int = 5,
        recovery_timeout: timedelta = timedelta(seconds=60),
        success_threshold: int = 2,
        expected_exception: type[Exception] | tuple[type[Exception], ...] = Exception,
        name: str | None = None,
        tracer: Tracer | None = None,
        metrics: CircuitBreakerMetrics | None = None,
        service_name: str | None = None,
        *,
        policy: BreakerPolicy = _NO_POLICY,
        listeners: Sequence[Listener] = (),
        clock: _clock.Clock = _clock.monotonic,
        now: _clock.Now = _clock.utc_now,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.name = name or "circuit_breaker"
        _check(self.name, failure_threshold, success_threshold, recovery_timeout)
        self.service_name = service_name or "unknown"
        self._open_text = f"Circuit breaker '{self.name}' {IS_OPEN}"
        self.expected_exception = expected_exception
        self.policy = policy
        self._rejects = policy.is_failure_result
        self._clock = clock
        self._in_real_time = clock is _clock.monotonic
        # Failures in a row need neither time nor result of a success.
        self._judges_successes = not (
            policy.window is None and policy.slow_call_s is None and policy.is_failure_result is None
        )
        self._limit = (
            None
            if policy.call_timeout_s is None
            else SharedTimeLimit(f"Circuit breaker {self.name!r}", policy.call_timeout_s)
        )
        self._listeners = tuple(listeners)
        self.metrics = metrics
        self._machine = StateMachine(
            self.name,
            failure_threshold=failure_threshold,
            recovery_timeout=recovery_timeout,
            success_threshold=success_threshold,
            policy=policy,
            clock=clock,
            now=now,
            jitter=jitter,
            on_change=self._changed,
        )
        self._spans = CallSpans(self._machine, tracer, self._is_failure)
        self._reports.state_is(CircuitBreakerState.CLOSED)

    def __repr__(self) -> str:
        return f"CircuitBreaker(name={self.name!r}, state={self.state.value!r}, failure_count={self.failure_count})"

    @overload
    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @overload
    async def call(self, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    async def call(self, func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:  # noqa: C901, PLR0912  # each step in a method of its own would double its time
        """Run ``func(*args, **kwargs)`` and return its result, awaited if it can be.

        Args:
            func: Anything that can be called: coroutine function, function, bound method, partial, object.
            *args: For ``func``.
            **kwargs: For ``func``.

        Raises:
            CircuitBreakerError: The circuit let nothing through; ``func`` was not called.
            CallTimeoutError: ``func`` took longer than ``policy.call_timeout_s``.
            Exception: Whatever ``func`` raises, unchanged.
        """
        machine, spans, limit = self._machine, self._spans, self._limit
        begun = self._clock()
        if begun >= spans.look_at:
            spans.look(begun)
        if not machine.passage_free:
            refusal = machine.admit(begun)
            if refusal is not None:
                raise self._refused(begun, refusal)
        era = machine.era
        if spans.on:
            func, args = spans.run, (func, *args)
        watch = None
        try:
            if limit is not None:
                watch = limit.begin(begun if self._in_real_time else None)
            result = func(*args, **kwargs)
            if type(result) is CoroutineType or hasattr(type(result), "__await__"):
                result = await result
        except BaseException as error:
            self._raise_if_late(era, watch, error)
            self.raised(era, error)
            raise
        finally:
            if watch is not None:
                limit.end(watch)  # type: ignore[union-attr]  # a watch comes from a limit
        # What `returned` does, without the calls.
        if self._judges_successes:
            if self._rejects is not None:
                try:
                    rejected = self._rejects(result)
                except BaseException:
                    machine.neutral(era)
                    raise
                if rejected:
                    self.failed(era)
                    return result
            now = self._clock()
            machine.succeeded(era, now, now - begun)
        elif machine.passage_free:  # failures in a row decide, and most calls end here
            if machine.failure_count and era == machine.era:
                machine.failure_count = 0
        else:
            machine.succeeded(era, begun, 0.0)
        if self._counts is not None:
            self._counts.success += 1
        elif self._pushes:
            self._reports.ended("success")
        return result

    def guard(self) -> Guard:
        """A context manager, for ``async with`` and ``with``, whose block is one call.

        Raises:
            CircuitBreakerError: On entering, when the circuit lets nothing through.
        """
        return Guard(self, self._limit)

    def protect(self, func: Callable[P, T]) -> Callable[P, T]:
        """Decorator: every call of ``func`` goes through this breaker; what it wraps stays sync or async."""
        if iscoroutinefunction(func) or iscoroutinefunction(getattr(func, "__call__", None)):  # noqa: B004  # the kind of its call, not whether it has one
            call: Any = self.call

            @wraps(func)
            async def run(*args: P.args, **kwargs: P.kwargs) -> Any:
                return await call(func, *args, **kwargs)

            return cast("Callable[P, T]", run)

        @wraps(func)
        def run_now(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.guard() as guard:
                result = func(*args, **kwargs)
                guard.result = result
            return result

        return run_now

    def get_state(self) -> dict[str, Any]:
        """Name, state, counters and last failure (ISO 8601, or ``None``), for health checks and logs."""
        moment = self.last_failure_time
        return {
            "name": self.name,
            "state": self.state.value,
            "failure_count": self.failure_count,
            "success_count": self.success_count,
            "last_failure_time": None if moment is None else moment.isoformat(),
        }

    def describe(self) -> dict[str, Any]:
        """`get_state`, and why the circuit is so and since when; for consoles and command lines. JSON has a form for all of it.

        ``reason`` and ``since`` (ISO 8601) are those of the latest change, ``None`` while there was none;
        ``retry_after_seconds`` is ``None`` where nobody can tell.
        """
        change, seconds = self.last_change, self.retry_after()
        return {
            **self.get_state(),
            "reason": None if change is None else change.reason,
            "since": None if change is None else change.at.isoformat(),
            "hold": None if self.hold is None else self.hold.value,
            "retry_after_seconds": None if seconds == float("inf") else round(seconds, 3),
            "failure_threshold": self.failure_threshold,
            "calls": self._reports.totals(),
        }

    def retry_after(self) -> float:
        """Seconds until a call may be let through; 0 when it may be now."""
        machine = self._machine
        return float("inf") if machine.hold is Hold.ISOLATED else machine.retry_after(self._clock())

    def try_now(self) -> None:
        """End the open time: the next call is a trial. Does nothing in another state or under a hold."""
        self._machine.try_now()

    def reset(self) -> None:
        """Close the circuit, forget all failures, and end a hold."""
        self._machine.reset()

    def isolate(self) -> None:
        """Refuse every call until `reset`."""
        self._machine.keep(Hold.ISOLATED)

    def force_closed(self) -> None:
        """Let every call through until `reset`, whatever fails; calls are still counted in metrics."""
        self._machine.keep(Hold.FORCED_CLOSED)


def _check(name: str, failure_threshold: Any, success_threshold: Any, recovery_timeout: Any) -> None:
    """Refuse at once what would only show in the middle of an outage, in place of its error."""
    for label, number in {"failure_threshold": failure_threshold, "success_threshold": success_threshold}.items():
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"Circuit breaker {name!r}: {label}={number!r} must be a whole number, at least 1")
    if not isinstance(recovery_timeout, timedelta) or recovery_timeout < timedelta(0):
        raise ValueError(
            f"Circuit breaker {name!r}: recovery_timeout={recovery_timeout!r} must be a timedelta that is not "
            "negative, such as timedelta(seconds=60)"
        )


def circuit_breaker(
    failure_threshold: int = 5,
    recovery_timeout: timedelta = timedelta(seconds=60),
    success_threshold: int = 2,
    expected_exception: type[Exception] | tuple[type[Exception], ...] = Exception,
    name: str | None = None,
    **options: Any,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorator that gives a function, sync or async, a breaker of its own.

    Args:
        failure_threshold: As of `CircuitBreaker`, like all arguments.
        recovery_timeout: As of `CircuitBreaker`.
        success_threshold: As of `CircuitBreaker`.
        expected_exception: As of `CircuitBreaker`.
        name: By default ``<module>.<function>``.
        **options: Any other argument of `CircuitBreaker`.
    """

    def decorate(func: Callable[P, T]) -> Callable[P, T]:
        breaker = CircuitBreaker(
            failure_threshold=failure_threshold,
            recovery_timeout=recovery_timeout,
            success_threshold=success_threshold,
            expected_exception=expected_exception,
            name=name or f"{getattr(func, '__module__', None)}.{getattr(func, '__name__', type(func).__name__)}",
            **options,
        )
        guarded = breaker.protect(func)
        guarded.circuit_breaker = breaker  # type: ignore[attr-defined]  # for tests and registries
        return guarded

    return decorate
