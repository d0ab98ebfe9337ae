"""Deletes what the inbox need not remember any longer, a little at a time.

A service starts one `InboxPurger`; several at once, in several processes, get in
nobody's way: each skips the rows that another is deleting.
"""

import asyncio

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs._checks import positive
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.inbox.config import DEFAULT_RETENTION_S
from huleedu_service_libs.inbox.metrics import PURGE_ERRORS, PURGED
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["InboxPurger"]

_STOP_S = 10.0

_DELETE = text(
    "DELETE FROM event_inbox WHERE ctid = ANY(ARRAY("
    "SELECT ctid FROM event_inbox WHERE processed_at < now() - make_interval(secs => :age)"
    " ORDER BY processed_at LIMIT :rows FOR UPDATE SKIP LOCKED))"
)

logger = create_service_logger("huleedu_service_libs.inbox")


class InboxPurger(StartStop):
    """Purges at intervals, from `start` to `stop`; or once, with `purge`.

    Args:
        engine: Where the table is.
        retention_s: Seconds for which events are remembered. At least as long as the topics keep them,
            plus retry delays and the age up to which dead letters are sent again: what comes after that
            is processed a second time.
        batch_size: Rows deleted in one transaction.
        interval_s: Seconds between two purges. Shorter than the outbox's, because an index leads to what is to go, where the outbox
            reads its whole table.
        sleep: Waits.

    Raises:
        ValueError: A value is not positive.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        retention_s: float = DEFAULT_RETENTION_S,
        batch_size: int = 1_000,
        interval_s: float = 60.0,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        positive(retention_s=retention_s, batch_size=batch_size, interval_s=interval_s)
        self._engine = engine
        self._retention_s = retention_s
        self._batch_size = batch_size
        self._interval_s = interval_s
        self._sleep = sleep
        self._troubles = Troubles()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Purge from now on. Idempotent."""
        if self._task is None:
            self._task = begin(self._run(), name="inbox-purge")

    async def stop(self) -> None:
        """End it, within seconds. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await end(task, limit_s=_STOP_S)

    async def purge(self) -> int:
        """Delete everything that is old enough, batch by batch; how many rows there were.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database refused it or is out of reach.
        """
        purged = 0
        while True:
            count = await self._purge_batch()
            purged += count
            if count < self._batch_size:
                return purged

    async def _purge_batch(self) -> int:
        async with self._engine.begin() as connection:
            result = await connection.execute(_DELETE, {"age": self._retention_s, "rows": self._batch_size})
        PURGED.inc(result.rowcount)
        return result.rowcount

    async def _run(self) -> None:
        while True:
            try:
                purged = await self.purge()
            except Exception as error:  # noqa: BLE001  # rows that stay do no harm; the next turn tries again
                PURGE_ERRORS.inc()
                if failures := self._troubles.failed(error=error):
                    fields = error_fields(error)
                    logger.warning("inbox_purge_failed", failures=failures, again_in_seconds=self._interval_s, **fields)
            else:
                over = self._troubles.worked()
                if over is not None:
                    logger.info("inbox_purge_trouble_over", **over._asdict())
                if purged:
                    logger.info("inbox_purged", rows=purged)
            await self._sleep(self._interval_s)
