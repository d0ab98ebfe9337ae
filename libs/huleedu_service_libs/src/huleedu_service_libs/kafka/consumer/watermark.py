"""Up to where a partition is done: the offset that may be committed.

Records are taken in rising order and finish in any; committed is only what no
unfinished record stands before. Offsets may have gaps (compaction,
transactions). Pure: no Kafka, no clock.
"""

from collections import deque

__all__ = ["Watermark"]


class Watermark:
    """The contiguous finished prefix of one partition.

    Attributes:
        position: What to commit: the offset after the last one of the prefix; ``None`` before anything finished.
    """

    __slots__ = ("_begun", "_unfinished", "position")

    def __init__(self) -> None:
        self.position: int | None = None
        # From the oldest unfinished on. bound: `Intake` reads no partition whose span is full
        self._begun: deque[int] = deque()
        self._unfinished: set[int] = set()  # of those

    def begin(self, offset: int) -> None:
        """A record was taken.

        Raises:
            ValueError: It does not come after the one taken before.
        """
        newest = self._begun[-1] if self._begun else (self.position or 0) - 1
        if offset <= newest:
            raise ValueError(f"Offset {offset} does not come after {newest}")
        self._begun.append(offset)
        self._unfinished.add(offset)

    def finish(self, offset: int) -> None:
        """A record that was begun is done.

        Raises:
            ValueError: It was not begun, or is done already.
        """
        if offset not in self._unfinished:
            raise ValueError(f"Offset {offset} is not in progress")
        self._unfinished.discard(offset)
        while self._begun and self._begun[0] not in self._unfinished:
            self.position = self._begun.popleft() + 1

    @property
    def oldest(self) -> int | None:
        """The first unfinished offset: what holds the watermark up; ``None`` when nothing is in progress."""
        return self._begun[0] if self._begun else None

    @property
    def unfinished(self) -> int:
        """Records in progress."""
        return len(self._unfinished)

    @property
    def span(self) -> int:
        """Records taken and not below the watermark, finished or not: what would come again after a crash."""
        return len(self._begun)
