"""One reader of a user's notifications, who misses none that the history holds and gets none twice.

The channel's messages only wake it; what it hands out comes from the history,
from its own place on. So a lost wake-up costs time and nothing else, and a
lost connection costs nothing at all.
"""

import asyncio
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from huleedu_service_libs._backoff import grown, spread
from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_pubsub.cancellation import keeps_cancellation
from huleedu_service_libs._redis_pubsub.cursor import Cursor, HistoryGone, Page, account
from huleedu_service_libs._redis_pubsub.history import History, NotificationHistory
from huleedu_service_libs._redis_pubsub.messages import Message, SubscriptionClosedError
from huleedu_service_libs._redis_pubsub.metrics import Reports

with requires_extra("redis", module=__name__):
    from redis.exceptions import RedisError

__all__ = ["Follower", "Notification", "WakeUp"]

_FIRST_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Notification:
    """One notification to a user.

    Attributes:
        id: The reader's place behind it; who comes back with it gets what follows.
        text: ``{"event": ..., "data": ...}`` as JSON.
    """

    id: str
    text: str

    @property
    def body(self) -> dict[str, Any]:
        """The text, decoded."""
        body: dict[str, Any] = json.loads(self.text)
        return body


class WakeUp:
    """A receiver that keeps nothing but the fact that something has happened."""

    def __init__(self) -> None:
        self.error: SubscriptionClosedError | None = None
        self._happened = asyncio.Event()

    def deliver(self, message: Message) -> None:  # noqa: ARG002  # the history has it
        """There is a notification."""
        self._happened.set()

    def missed(self, seconds_away: float) -> None:  # noqa: ARG002  # the history has what was missed
        """There may be notifications."""
        self._happened.set()

    def fail(self, error: SubscriptionClosedError) -> None:
        """Nothing will wake the reader any more."""
        self.error = error
        self._happened.set()

    @property
    def happened(self) -> bool:
        """Whether something has, since `clear`."""
        return self._happened.is_set()

    def clear(self) -> None:
        """From now on."""
        self._happened.clear()

    async def wait(self, limit_s: float) -> None:
        """Until something happens, or the time is up."""
        try:
            async with asyncio.timeout(limit_s):
                await self._happened.wait()
        except TimeoutError:
            return


class Follower:
    """A user's notifications from a place on, in order, for one reader.

    Args:
        channel: The user's.
        history: Has the notifications.
        place: Where to begin.
        wake_up: Says when to look.
        config: Bounds.
        reports: Metrics and log.
        clock: Monotonic seconds.
        jitter: A number in [0, 1) at each call.

    Attributes:
        id: Of what was handed out last, or of the place where it began: who comes back with it misses nothing.
    """

    def __init__(
        self,
        channel: str,
        *,
        history: History,
        place: Cursor,
        wake_up: WakeUp,
        config: NotificationHistory,
        reports: Reports,
        clock: Clock = monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.id = str(place)
        self._channel = channel
        self._history = history
        self._place = place
        self._wake_up = wake_up
        self._config = config
        self._reports = reports
        self._clock = clock
        self._jitter = jitter
        self._look_again_at = clock()
        self._failures = 0
        self._ready: deque[Notification | HistoryGone] = deque()  # bound: a page, read when it is empty

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notification | HistoryGone:
        while True:
            item = await self.get(timeout=self._config.poll_s)
            if item is not None:
                return item

    async def get(self, *, timeout: float) -> Notification | HistoryGone | None:  # noqa: ASYNC109  # as `get_message` has it
        """The next notification, or that some are gone for good. While Redis is away it waits.

        Args:
            timeout: Seconds to wait.

        Returns:
            What comes next; ``None`` when the time is up.

        Raises:
            SubscriptionClosedError: The client was stopped, or the server refuses the channel.
        """
        kept = keeps_cancellation()
        try:
            async with asyncio.timeout(timeout):
                while not self._ready:
                    await self._look()
                    kept()
        except TimeoutError:
            return None
        item = self._ready.popleft()
        self.id = item.id
        return item

    async def _look(self) -> None:
        """Wait until something happens or it is time to look again, or else read a page."""
        if self._wake_up.error is not None:
            raise self._wake_up.error
        pause_s = self._look_again_at - self._clock()
        if pause_s > 0 and not self._wake_up.happened:
            await self._wake_up.wait(pause_s)
            return
        self._wake_up.clear()  # before reading: what happens from here on is not seen by the read
        try:
            page = await self._history.after(self._channel, self._place)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return
        self._reports.read()
        self._failures = 0
        self._take(page)

    def _take(self, page: Page) -> None:
        gone, place = account(self._place, page)
        if gone is not None:
            self._reports.history_gone(gone.loss, self._channel)
            self._ready.append(gone)
        for entry in page.entries:
            place = Cursor(page.epoch, entry.offset, entry.entry)
            self._ready.append(Notification(id=str(place), text=entry.text))
        self._place = place
        if len(page.entries) < self._config.page:
            self._look_again_in(self._config.poll_s)

    def _failed(self, error: Exception) -> None:
        self._reports.read_failed(error)
        self._failures += 1
        self._look_again_in(grown(self._failures, first=_FIRST_PAUSE_S, longest=self._config.poll_s))

    def _look_again_in(self, longest_s: float) -> None:
        self._look_again_at = self._clock() + spread(longest_s, self._jitter())
