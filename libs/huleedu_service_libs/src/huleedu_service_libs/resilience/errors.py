"""What a guard of this package raises by itself, apart from the errors of the call.

::

    NotReachedError              the dependency was never asked: breakers don't count it
    ├── CircuitBreakerError      the circuit lets nothing through at the moment
    └── BulkheadFullError        too many calls are under way
    CallTimeoutError             also TimeoutError: asked, but no answer in time
    └── DeadlineExceededError    the request as a whole has no time left
"""

from datetime import datetime

__all__ = ["BulkheadFullError", "CallTimeoutError", "CircuitBreakerError", "DeadlineExceededError", "NotReachedError"]


class NotReachedError(Exception):
    """The call never left this process, so it says nothing about the dependency.

    Attributes:
        retriable: The outbox relay and retries read it: the cause lies outside the message.
    """

    retriable = True


class CircuitBreakerError(NotReachedError):
    """A circuit breaker refused the call.

    Attributes:
        last_failure_time: The failure that the circuit remembers, if any.
        retry_after: Seconds until a call may be let through; ``None`` when nobody can tell.
    """

    def __init__(
        self, message: str, last_failure_time: datetime | None = None, retry_after: float | None = None
    ) -> None:
        self.args = (message,)  # what super().__init__() would do, at a third of its time: refusals come in floods
        self.last_failure_time = last_failure_time
        self.retry_after = retry_after


class BulkheadFullError(NotReachedError):
    """A bulkhead has no room, or none became free in time.

    Attributes:
        name: The bulkhead.
        limit: Calls that may run at once.
        waiting: Calls that were waiting for room.
    """

    def __init__(self, name: str, limit: int, waiting: int) -> None:
        super().__init__(name, limit, waiting)
        self.name = name
        self.limit = limit
        self.waiting = waiting

    def __str__(self) -> str:
        return f"Bulkhead {self.name!r} is full: {self.limit} calls are under way, {self.waiting} wait; raise its limit or its queue, or call less at once"


class CallTimeoutError(TimeoutError):
    """A call took longer than it may.

    Attributes:
        name: Who limited it.
        seconds: The limit.
    """

    retriable = True

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__(name, seconds)
        self.name = name
        self.seconds = seconds

    def __str__(self) -> str:
        return f"{self.name}: no answer within {self.seconds:g} s"


class DeadlineExceededError(CallTimeoutError):
    """The deadline of the request that this call works for has passed."""

    def __str__(self) -> str:
        return f"{self.name}: the deadline of the request has passed"
