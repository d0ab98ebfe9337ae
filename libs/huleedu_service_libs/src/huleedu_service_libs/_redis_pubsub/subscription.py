"""One subscriber's queue: bounded, with marks where messages are missing.

The hub fills it, a service reads it as it would read redis-py's ``PubSub``. It
knows neither the server nor the connection.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from huleedu_service_libs._clock import sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.messages import Gap, GapReason, Message, SubscriptionClosedError
from huleedu_service_libs._redis_pubsub.metrics import Reports
from huleedu_service_libs._redis_pubsub.settings import Overflow

with requires_extra("redis", module=__name__):
    pass

__all__ = ["Subscription"]


class Subscription:
    """A channel's messages, in order, for one reader.

    Lost connections are not its reader's business: `get_message` waits on, and what was missed is
    told as a `Gap` (to ``on_gap``, or as a message of the type ``"gap"``), in its place between the messages.

    Args:
        channel: Where it listens.
        size: Messages that wait at most.
        overflow: What happens beyond.
        reports: Metrics.
        on_gap: Called with each gap when the reader comes to it. What it raises is logged, no more.

    Attributes:
        channel: As given.
        gaps: Gaps that the reader has come to.
    """

    def __init__(
        self,
        channel: str,
        *,
        size: int,
        overflow: Overflow,
        reports: Reports,
        on_gap: Callable[[Gap], None] | None = None,
    ) -> None:
        self.channel = channel
        self.gaps = 0
        self._size = size
        self._overflow = overflow
        self._reports = reports
        self._on_gap = on_gap
        self._queue: deque[Message | Gap] = deque()  # bound: `size` messages, and `overflow` says what happens then
        self._messages = 0  # of those in the queue
        self._before: Gap | None = None  # before the first of the queue
        self._after: Gap | None = None  # after the last of the queue
        self._error: SubscriptionClosedError | None = None
        self._news = asyncio.Event()

    def __repr__(self) -> str:
        return f"Subscription(channel={self.channel!r}, waiting={self._messages}, closed={self._error is not None})"

    # --- reading ---

    async def get_message(
        self,
        ignore_subscribe_messages: bool = False,  # noqa: FBT001, FBT002  # as the driver has it
        timeout: float | None = 0.0,  # noqa: ASYNC109  # as the driver has it
    ) -> dict[str, Any] | None:
        """The next message as redis-py gives it: ``type``, ``pattern``, ``channel``, ``data``.

        Args:
            ignore_subscribe_messages: Give messages only. Otherwise a gap comes as a message of the
                type ``"gap"`` whose ``data`` is the `Gap`.
            timeout: Seconds to wait; ``None`` waits for ever, 0 only looks.

        Returns:
            The message, or ``None`` when the time is up.

        Raises:
            SubscriptionClosedError: Nothing comes any more: the client was stopped, the queue was full
                (`Overflow.CLOSE`), or the server refuses the channel.
        """
        if timeout == 0:
            await sleep(0)  # who polls must let the hub work
            return self._pick(messages_only=ignore_subscribe_messages)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    await self._wait()
                    message = self._pick(messages_only=ignore_subscribe_messages)
                    if message is not None:
                        return message
        except TimeoutError:
            return None

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        """Messages and gaps for ever, as `get_message` gives them.

        Raises:
            SubscriptionClosedError: Nothing comes any more.
        """
        while True:
            message = await self.get_message(timeout=None)
            if message is not None:
                yield message

    async def _wait(self) -> None:
        while not self._has_items() and self._error is None:
            self._news.clear()
            await self._news.wait()  # no limit: the callers have theirs

    def _has_items(self) -> bool:
        return bool(self._queue) or self._before is not None or self._after is not None

    def _pick(self, *, messages_only: bool) -> dict[str, Any] | None:
        while (item := self._take()) is not None:
            if isinstance(item, Message):
                return _as_driver("message", item.channel, item.data)
            if not messages_only:
                return _as_driver("gap", item.channel, item)
        return None

    def _take(self) -> Message | Gap | None:
        if self._before is not None:
            gap, self._before = self._before, None
            return self._told(gap)
        if self._queue:
            item = self._queue.popleft()
            if isinstance(item, Gap):
                return self._told(item)
            self._messages -= 1
            return item
        if self._after is not None:
            gap, self._after = self._after, None
            return self._told(gap)
        if self._error is not None:
            raise self._error
        return None

    def _told(self, gap: Gap) -> Gap:
        self.gaps += 1
        self._reports.gap(gap.reason)
        if self._on_gap is not None:
            try:
                self._on_gap(gap)
            except Exception as error:  # noqa: BLE001  # the reader's own code must not end its subscription
                self._reports.callback_failed(self.channel, error)
        return gap

    # --- being filled ---

    def deliver(self, message: Message) -> None:
        """Take a message, or do what the overflow policy says."""
        if self._error is not None:
            return
        if self._messages >= self._size and not self._make_room():
            return
        if self._after is not None:
            self._queue.append(self._after)
            self._after = None
        self._queue.append(message)
        self._messages += 1
        self._news.set()

    def missed(self, seconds_away: float) -> None:
        """Put a gap after what waits."""
        self._miss_after(Gap(reason=GapReason.RECONNECTED, channel=self.channel, seconds_away=seconds_away))

    def fail(self, error: SubscriptionClosedError) -> None:
        """End it; what waits can still be read."""
        if self._error is None:
            self._error = error
        self._news.set()

    def _make_room(self) -> bool:
        """Whether there is room for a message now."""
        lost = Gap(reason=GapReason.OVERFLOW, channel=self.channel, dropped=1)
        if self._overflow is Overflow.DROP_OLDEST:
            self._reports.dropped(self._overflow, self.channel, first=self._before is None)
            self._drop_oldest(lost)
            return True
        self._reports.dropped(self._overflow, self.channel, first=self._after is None)
        if self._overflow is Overflow.CLOSE:
            reason = f"its reader was too slow, {self._size} messages were waiting; read faster, or raise queue_size"
            self.fail(SubscriptionClosedError(self.channel, reason))
        else:
            self._miss_after(lost)
        return False

    def _drop_oldest(self, lost: Gap) -> None:
        while isinstance(first := self._queue.popleft(), Gap):
            lost = first + lost  # a gap before what is dropped becomes part of it
        self._messages -= 1
        self._before = lost if self._before is None else self._before + lost

    def _miss_after(self, gap: Gap) -> None:
        self._after = gap if self._after is None else self._after + gap
        self._news.set()


def _as_driver(kind: str, channel: str, data: Any) -> dict[str, Any]:
    return {"type": kind, "pattern": None, "channel": channel, "data": data}
