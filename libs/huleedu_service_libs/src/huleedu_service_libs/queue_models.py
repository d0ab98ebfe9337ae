"""What a priority queue in Redis holds: ids with a score each.

`queue_redis_client` returns these. Knows no driver and no service's queue.
"""

from dataclasses import dataclass
from typing import NewType, Self

__all__ = ["PriorityScore", "QueueItem", "QueueItemId"]

QueueItemId = NewType("QueueItemId", str)
"""Identity of a queued item: the member of the sorted set."""

PriorityScore = NewType("PriorityScore", float)
"""Place in the queue; the lowest comes first."""


@dataclass(frozen=True, slots=True)
class QueueItem:
    """One entry of a queue.

    Attributes:
        item_id: Which item.
        priority: Its score.
    """

    item_id: QueueItemId
    priority: PriorityScore

    @classmethod
    def from_redis_tuple(cls, redis_tuple: tuple[str, float]) -> Self:
        """The entry that ``ZRANGE ... WITHSCORES`` gives as ``(member, score)``."""
        item_id, score = redis_tuple
        return cls(QueueItemId(item_id), PriorityScore(float(score)))
