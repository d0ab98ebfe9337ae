"""What a relay does beside relaying: look at the schema once, set the table's gauges, purge.

Started and stopped with the relay, by it. Nothing here may disturb delivery:
each error is counted, told once (`_troubles`), and tried again at the next turn.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs import _clock
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.purge import purge
from huleedu_service_libs.outbox.schema import check_schema, log_findings
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.status import measure_status, read_status

__all__ = ["OutboxMaintenance"]

STATUS_INTERVAL_S = 15.0  # between two settings of the gauges
FIRST_STATUS_S = 2.0  # by then the relay has its lanes
LEAST_PAUSE_S = 0.05  # whatever the settings say
STOP_GRACE_S = 2.0  # for a statement in flight; it is cancelled afterwards

logger = create_service_logger("huleedu.outbox.maintenance")


class OutboxMaintenance:
    """The chores of one outbox, in one background task.

    Args:
        engine: Borrows one connection at a time, for one statement or two.
        settings: Read as it goes: metrics, retention, interval.
        service_name: Label of the metrics.
        is_turn: Asked before a purge; of several relays only the one whose turn it is walks the table.
        clock: Monotonic seconds.
        sleep: Waits between turns.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        settings: OutboxSettings,
        service_name: str,
        *,
        is_turn: Callable[[], bool] = lambda: True,
        clock: _clock.Clock = _clock.monotonic,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._service_name = service_name
        self._is_turn = is_turn
        self._clock = clock
        self._sleep = sleep
        self._metrics = OutboxMetrics(service_name)
        self._troubles = Troubles(clock)
        self._next_status = clock() + FIRST_STATUS_S
        self._next_purge = clock() + settings.purge_interval_seconds  # not all at once, right at the start
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; does nothing when it runs."""
        if self._task is None or self._task.done():
            self._task = begin(self._run(), name=f"outbox-maintenance:{self._service_name}")

    async def stop(self) -> None:
        """End, within 2 s; does nothing when it does not run."""
        task, self._task = self._task, None
        if task is not None:
            await end(task, limit_s=STOP_GRACE_S)

    async def _run(self) -> None:
        await self._guarded("schema_check", self._check_schema)
        while True:
            if self._settings.enable_metrics and self._clock() >= self._next_status:
                self._next_status = self._clock() + STATUS_INTERVAL_S
                await self._guarded("status", self._measure)
            if self._settings.retention_seconds is not None and self._clock() >= self._next_purge:
                self._next_purge = self._clock() + self._settings.purge_interval_seconds
                if self._is_turn():
                    await self._guarded("purge", self._purge)
            await self._sleep(self._until_next())

    def _until_next(self) -> float:
        """Seconds until a chore is due, looked at again every second because settings may change."""
        due = [1.0, self._next_status - self._clock()]
        if self._settings.retention_seconds is not None:
            due.append(self._next_purge - self._clock())
        return max(LEAST_PAUSE_S, min(due))

    async def _guarded(self, chore: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do a chore; its trouble is counted, and told when it begins, now and then, and when it is over."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001  # delivery goes on, whatever this is
            self._metrics.increment_errors(chore)
            if failures := self._troubles.failed(chore, error):
                logger.warning(
                    "outbox_maintenance_failed",
                    service=self._service_name,
                    chore=chore,
                    failures=failures,
                    error=str(error) or "no answer in time",
                    error_type=type(error).__name__,
                )
        else:
            over = self._troubles.worked(chore)
            if over is not None:
                logger.info(
                    "outbox_maintenance_trouble_over", service=self._service_name, chore=chore, **over._asdict()
                )

    async def _check_schema(self) -> None:
        log_findings(await check_schema(self._engine))

    async def _measure(self) -> None:
        measure_status(
            await read_status(self._engine, service_name=self._service_name, max_retries=self._settings.max_retries)
        )

    async def _purge(self) -> None:
        retention = self._settings.retention_seconds
        if retention is None:
            return
        result = await purge(self._engine, retention_seconds=retention, service_name=self._service_name)
        if result.deleted:
            logger.info("outbox_purged", service=self._service_name, deleted=result.deleted, complete=result.complete)
