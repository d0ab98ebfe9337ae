"""What a channel brings: messages, gaps between them, and its end; and who takes them.

The hub hands them out, a `Subscription` takes them, services read them. Knows no server and no queue.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["Gap", "GapReason", "Message", "Receiver", "SubscriptionClosedError"]


class GapReason(StrEnum):
    """Why messages are missing."""

    RECONNECTED = "reconnected"
    """The connection was lost and is back; what was published in between is gone, how much nobody knows."""

    OVERFLOW = "overflow"
    """The subscriber read too slowly, and its queue was full."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A place in a channel where messages are missing, or may be.

    Attributes:
        reason: Why. `RECONNECTED` when both happened.
        channel: Where.
        seconds_away: How long nothing could arrive; 0 for an overflow.
        dropped: Messages that are known to be lost; after a lost connection there may be more.
    """

    reason: GapReason
    channel: str
    seconds_away: float = 0.0
    dropped: int = 0

    def __add__(self, other: "Gap") -> "Gap":
        reasons = {self.reason, other.reason}
        return Gap(
            reason=GapReason.RECONNECTED if GapReason.RECONNECTED in reasons else GapReason.OVERFLOW,
            channel=self.channel,
            seconds_away=self.seconds_away + other.seconds_away,
            dropped=self.dropped + other.dropped,
        )


@dataclass(frozen=True, slots=True)
class Message:
    """What was published.

    Attributes:
        channel: Where.
        data: The text; bytes where the driver's client does not decode.
    """

    channel: str
    data: str | bytes


class SubscriptionClosedError(RedisConnectionError):
    """A subscription has ended and brings nothing more. It is a `redis.exceptions.ConnectionError`.

    Attributes:
        channel: Its channel.
        reason: Why it ended.
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(channel, reason)
        self.channel = channel
        self.reason = reason

    def __str__(self) -> str:
        return f"The subscription to channel {self.channel!r} is closed: {self.reason}"


class Receiver(Protocol):
    """What takes a channel's messages. None of its methods waits: one slow reader must not hold up the others."""

    def deliver(self, message: Message) -> None:
        """Take a message."""

    def missed(self, seconds_away: float) -> None:
        """Take note that for so long nothing could arrive."""

    def fail(self, error: SubscriptionClosedError) -> None:
        """Take note that nothing comes any more."""
