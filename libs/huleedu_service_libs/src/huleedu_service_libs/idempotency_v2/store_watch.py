"""Notices a Redis that was restarted, lost its data, evicts keys or does not answer, and says so.

A service starts one `StoreWatch` beside its consumers. It looks at intervals and
touches no delivery. Each thing found is counted and logged once when it happens, and
`StoreWatch.status` has it for the health answer. Knows no Redis driver.
"""

import asyncio
import dataclasses
from uuid import uuid4

from huleedu_service_libs import _clock, _metrics
from huleedu_service_libs._checks import positive
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.idempotency_v2.store_facts import (
    CONDITIONS,
    INCIDENTS,
    StoreFacts,
    StoreStatus,
    conditions_of,
    incidents_between,
)
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import RedisClientProtocol, concrete_capability

__all__ = ["StoreStatus", "StoreWatch"]

_STOP_S = 5.0
_MARKER_TTL_S = 30 * 24 * 3600

_INCIDENTS = _metrics.counter(
    "idempotency_store_incidents_total", "Restarts, losses and evictions of the store", ("service", "kind")
)
_CONDITION = _metrics.gauge(
    "idempotency_store_condition", "1 while something is the matter with the store", ("service", "kind")
)

logger = create_service_logger("huleedu_service_libs.idempotency_v2")


class StoreWatch(StartStop):
    """Looks at Redis at intervals, from `start` to `stop`.

    It keeps one key of its own there: when that is gone, so may be others. Clients whose class has
    ``server_info`` (`RedisClient`) are asked for restarts and eviction as well.

    Args:
        redis: The client that idempotency uses.
        service_name: Whose watch: label of the metrics and part of the key.
        interval_s: Seconds between two looks. Fewer than a probe's, since what it looks for changes slowly: settings, lost keys.
        timeout_s: How long a look may take before Redis counts as unreachable.
        key_prefix: First part of the key.
        now: Time of day.
        sleep: Waits.

    Raises:
        ValueError: A time is not positive.
    """

    def __init__(
        self,
        redis: RedisClientProtocol,
        *,
        service_name: str,
        interval_s: float = 15.0,
        timeout_s: float = 5.0,
        key_prefix: str = "huleedu:idempotency:watch",
        now: _clock.Now = _clock.utc_now,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        positive(interval_s=interval_s, timeout_s=timeout_s)
        self._redis = redis
        self._info = concrete_capability(redis, "server_info")
        self._service = service_name
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._key = f"{key_prefix}:{service_name}"
        self._now = now
        self._sleep = sleep
        self._before: StoreFacts | None = None
        self._marker: str | None = None
        self._status = StoreStatus()
        self._failure: dict[str, str] = {}
        self._troubles = Troubles()
        self._task: asyncio.Task[None] | None = None

    @property
    def status(self) -> StoreStatus:
        """What was found at the last look."""
        return self._status

    async def start(self) -> None:
        """Look now and then at intervals; a Redis that does not answer is no error. Idempotent."""
        if self._task is None:
            await self.check()
            self._task = begin(self._run(), name=f"idempotency:store-watch:{self._service}")

    async def stop(self) -> None:
        """End it, within seconds. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            await end(task, limit_s=_STOP_S)

    async def check(self) -> StoreStatus:
        """Look once; never raises."""
        self._failure = {}
        facts = await self._look()
        incidents = incidents_between(self._before, facts, marker=self._marker)
        self._tell(incidents, conditions_of(facts))
        self._status = self._status_after(facts, incidents)
        self._before = facts if facts.info is not None else self._before
        self._marker = facts.marker or self._marker
        if facts.reachable and facts.marker is None:
            await self._mark()
        return self._status

    async def _run(self) -> None:
        while True:
            await self._sleep(self._interval_s)
            await self.check()

    # --- asking

    async def _look(self) -> StoreFacts:
        try:
            async with asyncio.timeout(self._timeout_s):
                marker = await self._redis.get(self._key)
        except Exception as error:  # noqa: BLE001  # that is what is to be found out
            self._failure = error_fields(error)
            return StoreFacts(reachable=False)
        return StoreFacts(reachable=True, marker=marker, info=await self._server_info())

    async def _server_info(self) -> dict[str, object] | None:
        if self._info is None:
            return {}
        try:
            async with asyncio.timeout(self._timeout_s):
                info = await self._info()
        except Exception as error:  # noqa: BLE001  # as above
            self._failure = error_fields(error)
            return None
        return info if isinstance(info, dict) else {}

    async def _mark(self) -> None:
        mark = uuid4().hex
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._redis.set_if_not_exists(self._key, mark, ttl_seconds=_MARKER_TTL_S)
                self._marker = await self._redis.get(self._key)  # another process may have been first
        except Exception as error:  # noqa: BLE001  # the next look tries again, and says so if it cannot
            self._failure = error_fields(error)

    # --- telling

    def _tell(self, incidents: tuple[str, ...], conditions: tuple[str, ...]) -> None:
        for kind in incidents:
            _INCIDENTS.labels(service=self._service, kind=kind).inc()
            logger.error("idempotency_store_incident", service=self._service, kind=kind, problem=INCIDENTS[kind])
        for kind, text in CONDITIONS.items():
            holds = kind in conditions
            _CONDITION.labels(service=self._service, kind=kind).set(holds)
            if not holds:
                self._tell_over(kind)
            elif self._troubles.failed(kind) == 1:
                logger.error(
                    "idempotency_store_trouble_begins", service=self._service, kind=kind, problem=text, **self._failure
                )

    def _tell_over(self, kind: str) -> None:
        over = self._troubles.worked(kind)
        if over is not None:
            logger.info("idempotency_store_trouble_over", service=self._service, kind=kind, **over._asdict())

    def _status_after(self, facts: StoreFacts, incidents: tuple[str, ...]) -> StoreStatus:
        now = self._now()
        seen = facts if facts.info is not None else self._before or facts
        return dataclasses.replace(
            self._status,
            checked_at=now,
            conditions=conditions_of(facts),
            incidents={**self._status.incidents, **dict.fromkeys(incidents, now)},
            run_id=seen.text("run_id"),
            eviction_policy=seen.text("maxmemory_policy"),
            evicted_keys=seen.number("evicted_keys"),
        )
