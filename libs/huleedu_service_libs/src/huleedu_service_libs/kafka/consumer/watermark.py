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

    __slots__ = ("_finished", "_open", "position")

    def __init__(self) -> None:
        self.position: int | None = None
        self._open: deque[int] = deque()  # begun, from the oldest unfinished on
        self._finished: set[int] = set()  # of those

    def begin(self, offset: int) -> None:
        """A record was taken.

        Raises:
            ValueError: It does not come after the one taken before.
        """
        newest = self._open[-1] if self._open else (self.position or 0) - 1
        if offset <= newest:
            raise ValueError(f"Offset {offset} does not come after {newest}")
        self._open.append(offset)

    def finish(self, offset: int) -> None:
        """A record that was begun is done.

        Raises:
            ValueError: It was not begun, or is done already.
        """
        if not self._open or offset < self._open[0] or offset in self._finished:
            raise ValueError(f"Offset {offset} is not in progress")
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            done = self._open.popleft()
            self._finished.discard(done)
            self.position = done + 1

    @property
    def oldest(self) -> int | None:
        """The first unfinished offset: what holds the watermark up; ``None`` when nothing is in progress."""
        return self._open[0] if self._open else None

    @property
    def unfinished(self) -> int:
        """Records in progress."""
        return len(self._open) - len(self._finished)

    @property
    def span(self) -> int:
        """Records taken and not below the watermark, finished or not: what would come again after a crash."""
        return len(self._open)
