"""What can go wrong between a record and its handler. Knows no driver."""

__all__ = ["ConsumerSetupError", "HandlerTimeoutError", "UndecodableRecordError"]


class ConsumerSetupError(Exception):
    """A consumer was put together in a way that cannot work."""


class HandlerTimeoutError(TimeoutError):
    """A handler did not end in time, and was cancelled.

    Attributes:
        event_type: What it handled.
        limit_s: How long it could take, seconds.
    """

    def __init__(self, event_type: str, limit_s: float) -> None:
        super().__init__(event_type, limit_s)
        self.event_type = event_type
        self.limit_s = limit_s

    def __str__(self) -> str:
        return (
            f"The handler of {self.event_type!r} did not end within {self.limit_s:g} s and was cancelled; "
            "make it faster, or give it more time with timeout_s"
        )


class UndecodableRecordError(ValueError):
    """A record is no event that the handler could take.

    Attributes:
        reason: What is wrong, without the input itself, which may be personal.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
