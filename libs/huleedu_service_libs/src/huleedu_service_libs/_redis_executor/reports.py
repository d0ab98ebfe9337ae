"""What an executor tells of itself: the port, and the listener that does nothing."""

from huleedu_service_libs._redis_executor.line import Call

__all__ = ["NO_LISTENER", "ExecutorListener"]


class ExecutorListener:
    """Override what is of interest. Called between replies and their callers: be quick, and never raise."""

    def sent(self, commands: int) -> None:
        """So many commands went out in one write."""

    def answered(self, calls: list[Call], at: float) -> None:
        """These have their replies, or a reply that says that it failed; ``at`` is in the loop's time, as `Call.since`."""

    def lost(self, unanswered: int, repeated: int, error: Exception | None) -> None:
        """A connection ended; how many commands had no reply, and how many of them are sent again."""

    def connected(self, *, again: bool) -> None:
        """There is a connection; ``again``: there was one before."""


NO_LISTENER = ExecutorListener()
