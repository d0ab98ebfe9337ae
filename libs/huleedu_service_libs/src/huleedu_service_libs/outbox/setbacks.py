"""What went wrong and when it may be tried again: keys and topics that wait, and relays that reach nothing.

A state machine over results; the clock is passed in. The pipeline asks it what to pass over.
"""

import random
from collections.abc import Callable, Collection, Sequence

from huleedu_service_libs.outbox.batch import Batch
from huleedu_service_libs.outbox.protocols import OutboxEvent
from huleedu_service_libs.outbox.schedule import Held
from huleedu_service_libs.outbox.wire import key_of

__all__ = ["Setbacks"]

MOST_HELD_KEYS = 1000  # beyond this many failing keys the relay waits instead of searching past them
LEAVE_AFTER_BATCHES = 3  # fruitless ones, after which the lanes are left to other relays


class Setbacks:
    """Holds of keys and topics.

    Args:
        clock: Monotonic seconds.
        jitter: A number in [0, 1) at each call, spreads retries.
    """

    def __init__(self, clock: Callable[[], float], jitter: Callable[[], float] = random.random) -> None:
        self._keys = Held(clock, jitter)
        self._topics = Held(clock, jitter)
        self._fruitless = 0  # batches in a row of which nothing arrived for reasons outside of them

    @property
    def outage_is_new(self) -> bool:
        """Whether the batch before reached something."""
        return not self._fruitless

    @property
    def reaches_nothing(self) -> bool:
        """Whether so many batches were fruitless that another relay had better try."""
        return self._fruitless >= LEAVE_AFTER_BATCHES

    def held_keys(self) -> list[str]:
        """Keys that wait for their next attempt."""
        return self._keys.held()

    def held_topics(self) -> list[str]:
        """Topics that wait for their next attempt."""
        return self._topics.held()

    def blocked_seconds(self) -> float:
        """How long nothing may be looked for: too many keys fail, or no topic is reached at all."""
        waits = []
        if len(self._keys.held()) >= MOST_HELD_KEYS:
            waits.append(self._keys.next_due() or 0.0)
        if self.reaches_nothing and self._topics.held():
            waits.append(self._topics.next_due() or 0.0)
        return max(waits, default=0.0)

    def next_due(self) -> float | None:
        """Seconds until something that waits may go, or ``None`` when nothing waits."""
        return min((due for due in (self._keys.next_due(), self._topics.next_due()) if due is not None), default=None)

    def note(self, batch: Batch, parked: Sequence[OutboxEvent], longest: float) -> dict[str, float]:
        """Take in what became of a batch whose results are stored.

        Args:
            batch: The results.
            parked: Events that were given up.
            longest: Longest hold, seconds.

        Returns:
            Topics that are out of reach, and for how many seconds they are held.
        """
        if self._keys.is_empty and self._topics.is_empty and batch.is_clean:
            self._fruitless = 0
            return {}
        for topic in {event.topic for event in batch.published}:
            self._topics.release(topic)
        for event in (*batch.published, *parked):
            self._keys.release(key_of(event))
        for key in self._waiting(batch, parked):
            self._keys.hold(key, longest)
        self._fruitless = self._fruitless + 1 if batch.outages and not batch.published else 0
        return {topic: self._topics.hold(topic, longest) for topic in batch.outages}

    @staticmethod
    def _waiting(batch: Batch, parked: Collection[OutboxEvent]) -> list[str]:
        given_up = {event.id for event in parked}
        return [key_of(one.event) for one in batch.failed if one.event.id not in given_up] + list(batch.waiting_keys)
