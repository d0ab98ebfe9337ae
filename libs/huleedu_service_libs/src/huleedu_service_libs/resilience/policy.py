"""What a breaker can be told beyond the services' constructor: frozen values that check themselves.

`CircuitBreaker` takes a `BreakerPolicy`; `machine` and `windows` read it. Nothing here acts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._checks import at_least_one, not_negative, positive
from huleedu_service_libs.resilience.errors import NotReachedError

__all__ = ["BreakerPolicy", "CountWindow", "Ramp", "TimeWindow"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountWindow:
    """Opens on the share of failures among the last calls.

    Attributes:
        size: How many calls are remembered.
        failure_rate: Share of failures, in (0, 1], that opens the circuit.
        slow_rate: Share of slow calls that opens it; ``None`` lets slow calls count as failures.
        minimum_calls: With fewer calls remembered nothing is decided.

    Raises:
        ValueError: It could never open: a rate outside of (0, 1], or a ``size`` below ``minimum_calls``.
    """

    size: int = 100
    failure_rate: float = 0.5
    slow_rate: float | None = None
    minimum_calls: int = 20

    def __post_init__(self) -> None:
        """Refuse what could never open."""
        _check_rates(self.failure_rate, self.slow_rate, self.minimum_calls)
        if self.size < self.minimum_calls:
            raise ValueError(f"size must be at least minimum_calls={self.minimum_calls}, got {self.size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeWindow:
    """Opens on the share of failures during the last seconds.

    Attributes:
        seconds: How far back it looks.
        slices: It forgets in steps of ``seconds / slices``.
        failure_rate: Share of failures, in (0, 1], that opens the circuit.
        slow_rate: Share of slow calls that opens it; ``None`` lets slow calls count as failures.
        minimum_calls: With fewer calls in the window nothing is decided.

    Raises:
        ValueError: A rate is outside of (0, 1], or another number less than makes sense.
    """

    seconds: float = 10.0
    slices: int = 10
    failure_rate: float = 0.5
    slow_rate: float | None = None
    minimum_calls: int = 20

    def __post_init__(self) -> None:
        """Refuse what could never open."""
        _check_rates(self.failure_rate, self.slow_rate, self.minimum_calls)
        positive(seconds=self.seconds)
        at_least_one(slices=self.slices)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """After a recovery lets a growing share of the calls through, in a straight line up to all.

    Attributes:
        seconds: Until all calls pass again.
        initial: Share of the calls at the beginning, in (0, 1].

    Raises:
        ValueError: ``seconds`` is not positive, or ``initial`` is outside of (0, 1].
    """

    seconds: float
    initial: float = 0.1

    def __post_init__(self) -> None:
        """Refuse a ramp that leads nowhere."""
        if self.seconds <= 0 or not 0 < self.initial <= 1:
            raise ValueError(f"A ramp needs seconds > 0 and 0 < initial <= 1, got {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """Everything beyond failures in a row, a fixed open time and a number of trial calls.

    Attributes:
        window: Decides instead of ``failure_threshold`` failures in a row.
        slow_call_s: A call that takes longer is slow, and counts as a failure (or towards ``slow_rate``).
        call_timeout_s: A call is cancelled after it, and counts as a failure.
        half_open_permits: Trial calls at the same time; by default ``success_threshold``.
        half_open_limit_s: A half-open circuit that is undecided for so long opens again.
        ramp: How calls come back after a recovery; by default all at once.
        open_growth: Factor on the open time for each opening without a recovery between.
        longest_open_s: Where that growth ends.
        open_jitter: Share of the open time added at random, so that instances don't come back together.
        ignored: Exceptions that are no failures, though ``expected_exception`` names them.
        is_failure: Decides about an expected exception that is not ignored; by default all are.
        is_failure_result: Whether what a call returned is a failure; it is returned all the same.
        not_reached: Exceptions of calls that never left this process (pool exhausted, timed out in our own queue).
        count_not_reached: Whether those count as failures, too.

    Raises:
        ValueError: A figure makes no sense; the text names it.
    """

    window: CountWindow | TimeWindow | None = None
    slow_call_s: float | None = None
    call_timeout_s: float | None = None
    half_open_permits: int | None = None
    half_open_limit_s: float | None = None
    ramp: Ramp | None = None
    open_growth: float = 1.0
    longest_open_s: float = 300.0
    open_jitter: float = 0.0
    ignored: tuple[type[BaseException], ...] = ()
    is_failure: Callable[[BaseException], bool] | None = None
    is_failure_result: Callable[[Any], bool] | None = None
    not_reached: tuple[type[BaseException], ...] = ()
    count_not_reached: bool = False

    def __post_init__(self) -> None:
        """Refuse figures that make no sense."""
        positive(
            slow_call_s=self.slow_call_s,
            call_timeout_s=self.call_timeout_s,
            half_open_permits=self.half_open_permits,
            half_open_limit_s=self.half_open_limit_s,
            longest_open_s=self.longest_open_s,
        )
        at_least_one(open_growth=self.open_growth)
        not_negative(open_jitter=self.open_jitter)

    def spares(self, error: BaseException) -> bool:
        """Whether ``error`` says nothing about the dependency, whatever the breaker expects."""
        if isinstance(error, self.ignored):
            return True
        return not self.count_not_reached and isinstance(error, (NotReachedError, *self.not_reached))


def _check_rates(failure_rate: float, slow_rate: float | None, minimum_calls: int) -> None:
    for name, rate in {"failure_rate": failure_rate, "slow_rate": slow_rate}.items():
        if rate is not None and not 0 < rate <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {rate!r}")
    at_least_one(minimum_calls=minimum_calls)
