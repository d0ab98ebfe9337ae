"""Several guards around one call, in the order that makes sense.

::

    fallback ( retry ( breaker ( bulkhead ( time limit ( call )))))

- the *time limit* is the innermost: it measures the call alone, not the wait for room;
- the *bulkhead* stands inside the breaker: while the circuit is open nobody waits for room, and a
  full bulkhead is no failure of the dependency;
- the *breaker* sees every attempt, so that retries open it, too;
- the *retry* stands outside: it does not repeat what the breaker refuses;
- the *fallback* answers when all of that has failed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, ParamSpec, Protocol, TypeVar

from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.limits import Bulkhead, TimeLimit

__all__ = ["CallPolicy", "Fallback", "Pipeline"]

P = ParamSpec("P")
T = TypeVar("T")


class CallPolicy(Protocol):
    """Anything that runs a call for somebody: `Retry`, `CircuitBreaker`, `Bulkhead`, `TimeLimit`, `Fallback`."""

    async def call(self, func: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``func``, or refuse to."""
        ...


class Fallback:
    """Answers in place of a call that failed.

    Args:
        answer: A value, or a function of the error, sync or async.
        on: Exceptions that it answers.
    """

    def __init__(self, answer: Any, on: type[Exception] | tuple[type[Exception], ...] = Exception) -> None:
        self._answer = answer
        self._on = on

    async def call(self, func: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        """Run ``func``; its result, or the answer."""
        try:
            return await func(*args, **kwargs)
        except self._on as error:
            answer = self._answer(error) if callable(self._answer) else self._answer
            return await answer if hasattr(type(answer), "__await__") else answer


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """Runs calls through the guards that are given; their order is fixed, see the module.

    Attributes:
        fallback: Answers for what failed.
        retry: Calls again.
        breaker: Refuses while the dependency fails.
        bulkhead: Bounds the calls at once.
        time_limit: Ends a call.
    """

    fallback: CallPolicy | None = None
    retry: CallPolicy | None = None
    breaker: CircuitBreaker | None = None
    bulkhead: Bulkhead | None = None
    time_limit: TimeLimit | None = None

    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``func`` through all of them."""
        result: T = await self._around(func)(*args, **kwargs)
        return result

    def protect(self, func: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Decorator: every call of ``func`` goes through all of them."""
        run_all = self._around(func)

        @wraps(func)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            result: T = await run_all(*args, **kwargs)
            return result

        return run

    def _around(self, func: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        for policy in (self.time_limit, self.bulkhead, self.breaker, self.retry, self.fallback):
            if policy is not None:
                func = partial(policy.call, func)
        return func
