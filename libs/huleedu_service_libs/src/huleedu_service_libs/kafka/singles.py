"""One published message and the caller that waits for it.

``coalescing`` makes them, ``publish_lane`` sends them. Knows no driver.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Iterator

from huleedu_service_libs.kafka.driver_errors import PublishTimeoutError
from huleedu_service_libs.kafka.outgoing import Item
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["Single", "take_expired"]


class Single(Item):
    """A message whose caller waits.

    Args:
        message: As it goes over the wire.
        deadline: When the caller gives up, seconds on the event loop's clock.
        waiter: What the caller waits for.

    Attributes:
        size: Bytes that it holds.
        is_admitted: Whether room was found for it.
    """

    __slots__ = ("deadline", "is_admitted", "size", "waiter")

    def __init__(self, message: OutgoingMessage, deadline: float, waiter: asyncio.Future[None]) -> None:
        self.message = message
        self.outcome = None
        self.deadline = deadline
        self.waiter = waiter
        self.is_admitted = False
        self.size = len(message.value) + (len(message.key) if message.key else 0)

    @property
    def is_over(self) -> bool:
        """Whether the caller has its answer, or was cancelled."""
        return self.waiter.done()

    def acknowledge(self) -> None:
        """Tell the caller that the broker has it."""
        if not self.waiter.done():
            self.waiter.set_result(None)

    def give_up(self, error: Exception) -> None:
        """Tell the caller, with a copy of the error that others may get too: each adds to its traceback."""
        if self.outcome is None:
            self.fail(error)  # whoever was about to send it need not
        if not self.waiter.done():
            self.waiter.set_exception(_copy_of(error))

    def finish(self) -> None:
        """Tell the caller what the outcome says."""
        if self.outcome is None:
            self.waiter.cancel()
        elif self.outcome.error is not None:
            self.give_up(self.outcome.error)
        else:
            self.acknowledge()

    def expire(self, timeout_s: float, *, sent: bool) -> None:
        """Tell the caller that its time is over."""
        self.give_up(PublishTimeoutError(self.message.topic, timeout_s, sent=sent))

    def abandon(self) -> None:
        """The caller was cancelled: what it would have been told counts as seen."""
        if self.waiter.done() and not self.waiter.cancelled():
            self.waiter.exception()


def take_expired(singles: deque[Single], now: float) -> Iterator[Single]:
    """Take from the front whoever has its answer, or no time left; gives the latter."""
    while singles and (singles[0].is_over or singles[0].deadline <= now):
        single = singles.popleft()
        if not single.is_over:
            yield single


def _copy_of(error: Exception) -> Exception:
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001  # somebody's error that cannot be copied is better shared than lost
        return error
    copied.__cause__ = error.__cause__
    return copied
