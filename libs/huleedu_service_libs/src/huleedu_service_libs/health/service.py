"""A service's health: watches its components in the background and answers from what it knows.

The adapters (``middleware.frameworks.quart_health`` and ``fastapi_health``) and the console ask it. It looks at
nothing when it is asked, so that a flood of probes costs no server anything. Knows components by their probes only.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._tasks import begin, end
from huleedu_service_libs.health.drain import Drain, DrainConfig, DrainReport
from huleedu_service_libs.health.findings import ComponentState, Impact, Level, Life, Probe
from huleedu_service_libs.health.looking import Watcher
from huleedu_service_libs.health.loop_lag import LoopLag
from huleedu_service_libs.health.metrics import READY
from huleedu_service_libs.health.shared import Shared
from huleedu_service_libs.health.verdicts import (
    Verdict,
    overall,
    verdict_on_life,
    verdict_on_readiness,
    verdict_on_start,
)
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["HealthConfig", "ServiceHealth"]

_STOP_S = 5.0

logger = create_service_logger("huleedu_service_libs.health")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """What a service wants otherwise.

    Attributes:
        drain: How patient the stop is.
        version: Of the service, for answers.
        show_causes: Whether answers say why, and show details; switch it off where strangers can ask. Metrics, log
            and console tell it all the same.
        loop_warn_s: Seconds of lag from which on the event loop is ``WARN``.
        loop_fail_s: Seconds from which on it has failed; three looks of five seconds in a row, and liveness fails.
    """

    drain: DrainConfig = field(default_factory=DrainConfig)
    version: str | None = None
    show_causes: bool = True
    loop_warn_s: float = 0.5
    loop_fail_s: float = 5.0


class ServiceHealth(StartStop):
    """One service's health, from `start` to `stop`. Making it connects to nothing and needs no event loop.

    Args:
        service_name: In answers, metrics and logs.
        config: What is wanted otherwise.
        clock: Monotonic seconds.
        now: Time of day.
        sleep: Waits between looks.

    Attributes:
        service_name: As given.
        config: As given.
        drain: The stop; `drain.finish_with` names what has to finish in it.
        database: What answers ``/healthz/database``; a `DatabaseHealthChecker`, set by the service.
    """

    def __init__(
        self,
        service_name: str,
        *,
        config: HealthConfig | None = None,
        clock: _clock.Clock = _clock.monotonic,
        now: _clock.Now = _clock.utc_now,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self.service_name = service_name
        self.config = config or HealthConfig()
        self.drain = Drain(self.config.drain, clock=clock, sleep=sleep)
        self.database: Any = None
        self._clock, self._now, self._sleep = clock, now, sleep
        self._lag = LoopLag(
            service_name, warn_s=self.config.loop_warn_s, fail_s=self.config.loop_fail_s, clock=clock, sleep=sleep
        )
        self._shared = Shared()
        self._watchers: dict[str, Watcher] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self.watch(Probe(name="event_loop", look=self._lag.look, impact=Impact.RESTART, kind="system"))

    def watch(self, *probes: Probe) -> None:
        """Look at further components; before `start`.

        Raises:
            RuntimeError: It has started.
            ValueError: There is a component of that name.
        """
        if self._started:
            raise RuntimeError(f"watch {[probe.name for probe in probes]} before start()")
        for probe in probes:
            if probe.name in self._watchers:
                raise ValueError(f"a component {probe.name!r} is watched already; give one of them another name")
            self._watchers[probe.name] = Watcher(probe, self.service_name, clock=self._clock, now=self._now)

    # --- life

    @property
    def life(self) -> Life:
        """Whether it starts, runs or drains."""
        if self.drain.begun:
            return Life.DRAINING
        return Life.RUNNING if self._started else Life.STARTING

    async def start(self) -> None:
        """Call it when everything else has started: look once at every component, then the start is over. Idempotent.

        A component that is not well fails no start: it is told, as ever. Takes as long as the slowest first look.
        """
        if self._started:
            return
        await self._lag.start()
        await asyncio.gather(*(watcher.look() for watcher in self._watchers.values()))
        self._started = True
        for watcher in self._watchers.values():
            name = f"health:{watcher.probe.name}"
            self._tasks.append(begin(self._keep_looking(watcher), name=name, died=partial(_tell_end, name)))
        self._note()

    async def stop(self) -> None:
        """Look no more; the last states stay. Idempotent."""
        tasks, self._tasks = self._tasks, []
        await end(*tasks, limit_s=_STOP_S)
        await self._lag.stop()

    async def stop_traffic(self) -> DrainReport:
        """Call it on SIGTERM, and let the server close when it returns. See `Drain`."""
        self.drain.begun = True
        self._note()
        return await self.drain.run()

    async def _keep_looking(self, watcher: Watcher) -> None:
        while True:
            await self._sleep(watcher.probe.interval_s)
            await watcher.look()
            self._note()

    def _note(self) -> None:
        READY.labels(self.service_name).set(self.ready().level is not Level.FAIL)

    # --- answers

    async def once(self, name: str, ask: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """What ``ask`` returns, asked once for all who want it at the same time."""
        return await self._shared.get(name, ask)

    def states(self) -> Sequence[ComponentState]:
        """Every component, those first that are worst."""
        found = [watcher.state for watcher in self._watchers.values()]
        return sorted(found, key=lambda state: (-(state.level or 0), state.name))

    def live(self) -> Verdict:
        """Whether this process should go on."""
        return verdict_on_life(self.life, self.states())

    def ready(self) -> Verdict:
        """Whether this process should get traffic."""
        return verdict_on_readiness(self.life, self.states())

    def started(self) -> Verdict:
        """Whether the start is over."""
        return verdict_on_start(self.life)

    def overall(self) -> Verdict:
        """How the service is, all in all."""
        return overall(self.life, self.states())


def _tell_end(task: str, error: BaseException) -> None:
    logger.error("health_watch_died", task=task, error=error_text(error))
