"""Stops a service without anybody noticing: first no new work, then the work in hand, then the end.

1. Readiness fails at once, so that whoever routes traffic looks elsewhere; requests are still served, since some
   arrive before that is noticed. Consumers finish meanwhile: nobody has to be told of them.
2. After the notice, new requests are refused; those in flight may finish. WebSockets, which would not, are closed.
3. When they have, or time is up, the server may close.

Knows neither signals nor servers; `gate` counts the requests.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from inspect import isawaitable

from huleedu_service_libs import _clock
from huleedu_service_libs._checks import not_negative, numbers_of
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._tasks import attended, leave
from huleedu_service_libs.health.open_sockets import OpenSockets
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Drain", "DrainConfig", "DrainReport"]

_LOOK_S = 0.02

logger = create_service_logger("huleedu_service_libs.health")


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainConfig:
    """How patient the stop is. Their sum must be less than what the orchestrator grants (Kubernetes: 30 s).

    Attributes:
        notice_s: Seconds for which requests are still taken after readiness has failed: the period of the readiness
            probe times its failure threshold, or what the load balancer needs.
        limit_s: Seconds that requests in flight and consumers then have to finish. More than either client's ``stop_timeout_s``.

    Raises:
        ValueError: A time is negative.
    """

    notice_s: float = 5.0
    limit_s: float = 15.0

    def __post_init__(self) -> None:
        not_negative(**numbers_of(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainReport:
    """What came of it.

    Attributes:
        unfinished_requests: Requests still in flight when time was up, and handlers of WebSockets.
        unfinished_work: What else had not finished, or failed, by name.
        refused_requests: Requests refused so far.
        closed_websockets: Those that were open, and were told to come back.
        took_s: Seconds.
    """

    unfinished_requests: int
    unfinished_work: tuple[str, ...]
    refused_requests: int
    took_s: float
    closed_websockets: int = 0


class Drain:
    """The stop of one service; happens once.

    Args:
        config: How patient.
        clock: Monotonic seconds.
        sleep: Waits.

    Attributes:
        in_flight: Requests being served, WebSockets and health requests apart.
        refused: Requests refused.
        begun: Whether readiness has failed.
        refusing: Whether new requests are refused.
        sockets: WebSockets that are open.
    """

    def __init__(
        self,
        config: DrainConfig | None = None,
        *,
        clock: _clock.Clock = _clock.monotonic,
        sleep: _clock.Sleep = _clock.sleep,
    ) -> None:
        self.config = config or DrainConfig()
        self._clock, self._sleep = clock, sleep
        self._work: dict[str, Callable[[], Awaitable[None]]] = {}
        self._running: asyncio.Task[DrainReport] | None = None
        self.sockets = OpenSockets()
        self.in_flight = 0
        self.refused = 0
        self.begun = False
        self.refusing = False

    def finish_with(self, name: str, finish: Callable[[], Awaitable[None]]) -> None:
        """Have ``finish`` called when the drain begins, such as a consumer's ``stop``; it may be called again later.

        Raises:
            ValueError: There is one of that name.
        """
        if name in self._work:
            raise ValueError(f"{name!r} is drained already; give one of them another name")
        self._work[name] = finish

    @property
    def _unfinished(self) -> int:
        return self.in_flight + len(self.sockets)

    async def run(self) -> DrainReport:
        """Do it; who calls it again waits for the same."""
        if self._running is None:
            self._running = attended(self._run(), name="drain")
        return await asyncio.shield(self._running)

    async def _run(self) -> DrainReport:
        began = self._clock()
        self.begun = True
        logger.info("drain_begins", in_flight=self.in_flight, work=sorted(self._work), notice_s=self.config.notice_s)
        work = {attended(_finish(finish), name=f"drain:{name}"): name for name, finish in self._work.items()}
        await self._sleep(self.config.notice_s)
        self.refusing = True
        deadline = self._clock() + self.config.limit_s
        closed = await self.sockets.close()
        while (self._unfinished or not all(task.done() for task in work)) and self._clock() < deadline:
            await self._sleep(_LOOK_S)
        report = DrainReport(
            unfinished_requests=self._unfinished,
            unfinished_work=tuple(sorted(name for task, name in work.items() if not _finished(task, name))),
            refused_requests=self.refused,
            closed_websockets=closed,
            took_s=round(self._clock() - began, 3),
        )
        complete = not report.unfinished_requests and not report.unfinished_work
        (logger.info if complete else logger.error)(
            "drain_over",
            complete=complete,
            unfinished_requests=report.unfinished_requests,
            unfinished_work=list(report.unfinished_work),
            refused_requests=report.refused_requests,
            closed_websockets=report.closed_websockets,
            took_s=report.took_s,
        )
        return report


async def _finish(finish: Callable[[], Awaitable[None]]) -> None:
    """Whatever ``finish`` raises when it is called stops this one alone."""
    outcome = finish()
    if isawaitable(outcome):  # a plain function may have been given after all
        await outcome


def _finished(task: "asyncio.Future[None]", name: str) -> bool:
    if not task.done():
        leave(task)
        return False
    error = asyncio.CancelledError() if task.cancelled() else task.exception()
    if error is not None:
        logger.error("drain_work_failed", work=name, **error_fields(error))
    return error is None
