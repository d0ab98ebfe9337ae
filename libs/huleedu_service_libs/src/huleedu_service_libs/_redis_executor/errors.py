"""What can become of a command beside an answer. Each is also the driver's error that callers catch already."""

from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["GivenUpError", "RedisOverloadedError", "ReplyLateError", "ReplyLostError"]


class ReplyLostError(RedisConnectionError):
    """The connection broke between a command and its reply. Redis may have run it or not.

    Attributes:
        command: Its name.
        cause: What became of the connection.
    """

    def __init__(self, command: str, cause: str) -> None:
        super().__init__(command, cause)
        self.command = command
        self.cause = cause

    def __str__(self) -> str:
        return f"Connection lost before the reply to {self.command}, which may have run or not: {self.cause}"


class GivenUpError(ReplyLostError):
    """The client was stopped before the reply came: nobody may ask or send again on the caller's behalf."""

    def __init__(self, command: str, cause: str = "the client was stopped") -> None:
        super().__init__(command, cause)


class ReplyLateError(RedisTimeoutError):
    """Redis sent nothing for as long as the socket time-out. It may have run the command or not.

    Attributes:
        command: Its name.
        limit_s: The time-out, seconds.
    """

    def __init__(self, command: str, limit_s: float) -> None:
        super().__init__(command, limit_s)
        self.command = command
        self.limit_s = limit_s

    def __str__(self) -> str:
        return (
            f"No reply to {self.command} within {self.limit_s:g} s; it may have run or not. Is a slow command or "
            "script holding Redis up (SLOWLOG GET), or is socket_timeout_s too short?"
        )


class RedisOverloadedError(RedisConnectionError):
    """A command was refused, or gave up waiting for its turn. Redis has not seen it.

    Attributes:
        command: Its name.
        reason: Which limit was reached.
    """

    def __init__(self, command: str, reason: str) -> None:
        super().__init__(command, reason)
        self.command = command
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.command} was not sent: {self.reason}. Issue fewer commands at once, or give Redis more room"
