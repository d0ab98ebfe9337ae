"""Where a membership is in its partitions: what it has committed, and where its reading began.

`Session` commits through it. Who begins at the end of the log commits that place too, or a restart would begin later,
and the events in between would be lost. Knows the driver's consumer by its methods alone.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import attended, leave
from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.driver import not_cut_off
from huleedu_service_libs.kafka.consumer.partitions import PartitionState
from huleedu_service_libs.kafka.consumer.troubles import ConsumerTroubles

__all__ = ["Places"]

_COMMIT_LIMIT_S = 10.0
_POSITION_LIMIT_S = 1.0
_KEEP_ROUNDS = 10


class Places:
    """See the module.

    Args:
        config: Of the consumer.
        consumer: The driver's.
        states: What is held of each partition, now.
        keeps_all: Whether partitions stay: while they go, their positions are beyond what was forgotten unfinished.
        troubles: Told of commits that fail.
        clock: Monotonic seconds.

    Attributes:
        starts: Of the assigned partitions: where reading began, as far as it is known.
        committed_at: When a commit last went well.
    """

    def __init__(
        self,
        config: ConsumerConfig,
        *,
        consumer: Callable[[], Any],
        states: Mapping[Any, PartitionState],
        keeps_all: Callable[[], bool],
        troubles: ConsumerTroubles,
        clock: _clock.Clock,
    ) -> None:
        self.starts: dict[Any, int] = {}
        self.committed_at: float | None = None
        self._config = config
        self._consumer = consumer
        self._states = states
        self._keeps_all = keeps_all
        self._troubles = troubles
        self._clock = clock
        self._kept: set[Any] = set()  # those whose start is committed
        self._lock = asyncio.Lock()

    def began(self, partition: Any, offset: int) -> None:
        """Reading of a partition began there, unless an earlier place is known."""
        self.starts.setdefault(partition, offset)

    def forget(self) -> None:
        """The partitions are given back."""
        self.starts.clear()
        self._kept.clear()

    async def keep(self) -> None:
        """Commit where a new group begins that wants only what is to come: else a restart would begin later."""
        for _ in range(_KEEP_ROUNDS):
            await self.commit()
            if self._consumer().assignment() <= self._kept:
                return

    async def commit(self) -> None:
        """Commit the finished prefixes. Who may not, because the group has moved on, finds the records again there."""
        async with self._lock:
            await self._note_starts()
            mine = self._consumer().assignment()
            states = dict(self._states)
            offsets = {tp: at for tp, at in self._starts_to_keep() if tp in mine}
            offsets |= {tp: to for tp, state in states.items() if (to := state.to_commit) is not None and tp in mine}
            if not offsets:
                return
            try:
                async with asyncio.timeout(_COMMIT_LIMIT_S):
                    await not_cut_off(self._consumer().commit(offsets))
            except Exception as error:  # noqa: BLE001  # the next commit covers it, or the records come again
                self._troubles.failed("commit", error)
                return
            self.committed_at = self._clock()
            self._troubles.worked("commit")
            self._kept |= offsets.keys()
            for tp, offset in offsets.items():
                if tp in states:
                    states[tp].committed = offset

    def _starts_to_keep(self) -> Iterable[tuple[Any, int]]:
        if self._config.from_beginning:
            return ()
        return ((tp, at) for tp, at in self.starts.items() if tp not in self._kept)

    async def _note_starts(self) -> None:
        """Learn where the partitions begin of which nothing was taken yet: for their lag, and to keep their place."""
        asked = {
            attended(self._consumer().position(tp), name="consumer-position"): tp
            for tp in self._consumer().assignment()
            if tp not in self.starts and self._keeps_all()
        }
        if not asked:
            return
        try:
            done, _ = await asyncio.wait(asked, timeout=_POSITION_LIMIT_S)
            for task in done:
                if not task.cancelled() and task.exception() is None:  # else it is asked again
                    self.began(asked[task], task.result())
        finally:
            leave(*asked)
