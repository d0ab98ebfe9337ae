"""Calls again what has failed, by tenacity, which is entered only after a failure.

A call that succeeds at once costs next to nothing; tenacity's own success path is fifty times dearer.
"""

import random
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from huleedu_service_libs import _clock
from huleedu_service_libs._backoff import FULL_JITTER, grown, spread
from huleedu_service_libs._checks import at_least_one, not_negative
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._metrics import counter
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.resilience.budget import RetryBudget
from huleedu_service_libs.resilience.deadline import remaining
from huleedu_service_libs.resilience.errors import DeadlineExceededError, NotReachedError

with requires_extra("resilience", module=__name__):
    from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

__all__ = ["Retry"]

P = ParamSpec("P")
T = TypeVar("T")

logger = create_service_logger("huleedu_service_libs.resilience")

RETRIES = counter("huleedu_resilience_retries_total", "Retries, and why there were no more", ("name", "outcome"))


class Retry:
    """Calls up to ``attempts`` times, with growing and spread waits between.

    An error's ``retry_after`` lengthens the wait. No wait begins that a deadline would not outlast, and a budget may refuse the next
    attempt; then the last error is raised, unchanged. What never reached the dependency
    (`NotReachedError`: an open breaker, a full bulkhead) is not retried: it would fail again at once.

    Args:
        attempts: Calls in all, the first included.
        first_delay_s: Seconds before the second call, before jitter. As in stamina.
        factor: What each wait is multiplied with for the next.
        longest_delay_s: Seconds at most, also where an error's ``retry_after`` asks for more.
        jitter: Share of a wait that is left to chance: 1 waits anything from 0 to the full time.
        on: Exceptions that are worth another attempt.
        unless: Exceptions among them that are not.
        retry_if: Decides about an exception that ``on`` names.
        budget: Limits the retries of many calls together.
        name: Label in metrics and log.
        sleep: Waits.
        chance: A number in [0, 1) at each call.

    Raises:
        ValueError: Fewer than one attempt, a negative delay, a ``factor`` below 1, or ``jitter`` outside of [0, 1].
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        first_delay_s: float = 0.1,
        factor: float = 2.0,
        longest_delay_s: float = 30.0,
        jitter: float = FULL_JITTER,
        on: type[Exception] | tuple[type[Exception], ...] = Exception,
        unless: tuple[type[Exception], ...] = (NotReachedError, DeadlineExceededError),
        retry_if: Callable[[BaseException], bool] | None = None,
        budget: RetryBudget | None = None,
        name: str = "retry",
        sleep: _clock.Sleep = _clock.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        at_least_one(attempts=attempts, factor=factor)
        not_negative(first_delay_s=first_delay_s, longest_delay_s=longest_delay_s)
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter must lie in [0, 1], got {jitter!r}")
        self.name = name
        self.budget = budget
        self.attempts = attempts
        self._first_delay_s = first_delay_s
        self._factor = factor
        self._longest_delay_s = longest_delay_s
        self._jitter = jitter
        self._on = on
        self._unless = unless
        self._retry_if = retry_if
        self._sleep = sleep
        self._chance = chance

    def __repr__(self) -> str:
        return f"Retry(name={self.name!r}, attempts={self.attempts}, budget={self.budget!r})"

    async def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``func`` until it succeeds or there is no sense in going on.

        Raises:
            Exception: The last error of ``func``, unchanged.
        """
        budget = self.budget
        if budget is not None:
            budget.deposit()
        try:
            return await func(*args, **kwargs)
        except Exception as error:
            if self.attempts == 1 or not self._is_worth_it(error):
                raise
            return await self._again(error, func, args, kwargs)

    def protect(self, func: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        """Decorator: every call of ``func`` is retried."""

        @wraps(func)
        async def run(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(func, *args, **kwargs)

        return run

    async def _again(self, first: Exception, func: Callable[..., Awaitable[T]], args: Any, kwargs: Any) -> T:
        failures = [first]

        async def attempt() -> T:
            if failures:  # tenacity's first attempt is the one that has failed already
                raise failures.pop()
            return await func(*args, **kwargs)

        def pause(state: RetryCallState) -> float:
            full = grown(
                state.attempt_number, first=self._first_delay_s, longest=self._longest_delay_s, factor=self._factor
            )
            own = spread(full, self._chance(), self._jitter)
            return max(own, min(self._longest_delay_s, _asked_for(state)))

        def stop(state: RetryCallState) -> bool:
            return stop_after_attempt(self.attempts)(state) or self._has_no_room(state)

        retrying = AsyncRetrying(
            sleep=self._sleep,
            wait=pause,
            stop=stop,
            retry=retry_if_exception(self._is_worth_it),
            reraise=True,
        )
        return await retrying(attempt)

    def _is_worth_it(self, error: BaseException) -> bool:
        if not isinstance(error, self._on) or isinstance(error, self._unless):
            return False
        return self._retry_if is None or self._retry_if(error)

    def _has_no_room(self, state: RetryCallState) -> bool:
        """Whether deadline or budget forbid another attempt; a retry that may be made is paid for here."""
        left = remaining()
        if left is not None and left <= state.upcoming_sleep:
            return self._ends(state, "deadline")
        if self.budget is not None and not self.budget.withdraw():
            return self._ends(state, "budget")
        RETRIES.labels(name=self.name, outcome="retried").inc()
        return False

    def _ends(self, state: RetryCallState, why: str) -> bool:
        RETRIES.labels(name=self.name, outcome=why).inc()
        logger.warning("retry_stopped", name=self.name, reason=why, attempts=state.attempt_number)
        return True


def _asked_for(state: RetryCallState) -> float:
    """Seconds that the dependency itself asked to wait, as the error's ``retry_after``; 0 for what is no number."""
    error = state.outcome.exception() if state.outcome is not None else None
    try:
        return max(0.0, float(getattr(error, "retry_after", None) or 0.0))
    except (TypeError, ValueError):  # somebody else's attribute: a date, a timedelta
        return 0.0
