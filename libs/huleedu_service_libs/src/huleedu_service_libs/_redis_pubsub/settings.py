"""How publish/subscribe waits, queues and comes back."""

from dataclasses import dataclass
from enum import StrEnum

from huleedu_service_libs._checks import numbers_of, positive
from huleedu_service_libs._redis_pubsub.history import NotificationHistory

__all__ = ["Overflow", "PubSubConfig"]


class Overflow(StrEnum):
    """What happens to a subscriber whose queue is full because it reads too slowly."""

    DROP_OLDEST = "drop_oldest"
    """The message that has waited longest goes; for states, of which the latest counts."""

    DROP_NEWEST = "drop_newest"
    """The new message is not taken."""

    CLOSE = "close"
    """The subscription ends with `SubscriptionClosedError`, once what is queued has been read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PubSubConfig:
    """Bounds of a client's subscriptions.

    Attributes:
        queue_size: Messages that wait for one subscriber.
        overflow: What happens beyond that.
        connect_timeout_s: Seconds in which a connection is made.
        confirm_timeout_s: Seconds in which the server confirms a subscription, or `subscribe` fails.
        health_interval_s: After so many seconds without a word the server is asked for one. Short, because a subscriber
            that hears nothing cannot tell a quiet channel from a dead connection.
        answer_timeout_s: Seconds for its answer; then the connection counts as lost.
        clean_up_timeout_s: Seconds in which leaving a channel is confirmed; then it is left to the server.
        first_delay_s: Pause after the first failed connection; it doubles from one to the next, with jitter.
        longest_delay_s: Longest pause between two attempts. They go on for as long as anybody subscribes; shorter than that of
            other clients, because all subscribers of the process wait for this one connection.
        history: Keeps users' notifications, so that readers who were away get them; ``None`` keeps nothing.

    Raises:
        ValueError: A value is not positive.
    """

    queue_size: int = 1000
    overflow: Overflow = Overflow.DROP_OLDEST
    connect_timeout_s: float = 5.0
    confirm_timeout_s: float = 5.0
    health_interval_s: float = 5.0
    answer_timeout_s: float = 5.0
    clean_up_timeout_s: float = 2.0
    first_delay_s: float = 0.05
    longest_delay_s: float = 2.0
    history: NotificationHistory | None = None

    def __post_init__(self) -> None:
        positive(**numbers_of(self))
