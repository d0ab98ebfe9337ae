"""Who may run next: in parallel over lanes, one after the other within a lane, bounded in all.

A lane holds the records of one key of one partition. Pure: no Kafka, no clock,
no tasks; what a record is, is the caller's business.
"""

from collections import deque
from collections.abc import Hashable
from enum import Enum
from typing import Generic, TypeVar

__all__ = ["KeyLanes", "Lane"]

T = TypeVar("T")


class _State(Enum):
    IDLE = "idle"
    READY = "ready"
    RUNNING = "running"
    RESTING = "resting"


class Lane(Generic[T]):
    """The waiting items of one key; only `KeyLanes` changes it."""

    __slots__ = ("group", "items", "key", "state")

    def __init__(self, group: Hashable, key: Hashable) -> None:
        self.group = group
        self.key = key
        self.items: deque[T] = deque()  # bound: what `Intake` lets in, max_buffered
        self.state = _State.IDLE


class KeyLanes(Generic[T]):
    """Hands out the first item of each lane, in the order in which lanes became ready.

    Args:
        limit: Items that are handed out at the same time.

    Attributes:
        running: Items handed out and not yet given back.
    """

    def __init__(self, limit: int) -> None:
        self.running = 0
        self._limit = limit
        self._lanes: dict[tuple[Hashable, Hashable], Lane[T]] = {}
        self._ready: deque[Lane[T]] = deque()  # bound: each lane once, and none is empty

    def __len__(self) -> int:
        """Lanes that hold something."""
        return len(self._lanes)

    def add(self, group: Hashable, key: Hashable, item: T) -> None:
        """Put an item behind the others of its key.

        Args:
            group: The partition.
            key: The key.
            item: What is handed out.
        """
        place = (group, key)
        lane = self._lanes.get(place)
        if lane is None:
            lane = self._lanes[place] = Lane(group, key)
        lane.items.append(item)
        if lane.state is _State.IDLE:
            self._make_ready(lane)

    def take(self) -> tuple[Lane[T], T] | None:
        """The next item and its lane, which runs from now on; ``None`` when nothing may run."""
        while self.running < self._limit and self._ready:
            lane = self._ready.popleft()
            if lane.state is not _State.READY:  # dropped meanwhile
                continue
            lane.state = _State.RUNNING
            self.running += 1
            return lane, lane.items[0]
        return None

    def finish(self, lane: Lane[T]) -> None:
        """The lane's first item is done, or not wanted any more; the next may run.

        Raises:
            ValueError: The lane is not running.
        """
        self._leave(lane)
        lane.items.popleft()
        if lane.items:
            self._make_ready(lane)
        else:
            self._forget(lane)

    def rest(self, lane: Lane[T]) -> None:
        """The lane's first item is not done; the lane waits for `wake`, and gives its place to others.

        Raises:
            ValueError: The lane is not running.
        """
        self._leave(lane)
        lane.state = _State.RESTING

    def wake(self, lane: Lane[T]) -> None:
        """The lane's first item may run again; nothing happens when it was dropped meanwhile."""
        if lane.state is _State.RESTING:
            self._make_ready(lane)

    def drop(self, group: Hashable) -> int:
        """Forget what waits in a partition's lanes; items that run stay until they are finished.

        Returns:
            How many were forgotten.
        """
        dropped = 0
        for lane in [lane for lane in self._lanes.values() if lane.group == group]:
            if lane.state is _State.RUNNING:
                dropped += len(lane.items) - 1
                first = lane.items[0]
                lane.items.clear()
                lane.items.append(first)
            else:
                dropped += len(lane.items)
                self._forget(lane)
        return dropped

    def _make_ready(self, lane: Lane[T]) -> None:
        lane.state = _State.READY
        self._ready.append(lane)

    def _leave(self, lane: Lane[T]) -> None:
        if lane.state is not _State.RUNNING:
            raise ValueError(f"Lane {lane.key!r} is {lane.state.value}, not running")
        lane.state = _State.IDLE
        self.running -= 1

    def _forget(self, lane: Lane[T]) -> None:
        lane.state = _State.IDLE
        lane.items.clear()
        if self._lanes.get((lane.group, lane.key)) is lane:
            del self._lanes[lane.group, lane.key]
