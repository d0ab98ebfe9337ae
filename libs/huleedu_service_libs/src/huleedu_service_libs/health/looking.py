"""Looks at one component within a time limit, and keeps its damped state.

A look that does not even end when it is cancelled is left behind, and the next one waits until it has ended: a server
that swallows everything costs one task, not one every few seconds.
"""

import asyncio

from huleedu_service_libs import _clock
from huleedu_service_libs._plain import plain, plain_text
from huleedu_service_libs._redaction import error_text, mask_url_credentials
from huleedu_service_libs._tasks import limited
from huleedu_service_libs.health.damping import Change, Damped
from huleedu_service_libs.health.findings import PASSING, ComponentDownError, ComponentState, Finding, Level, Probe
from huleedu_service_libs.health.metrics import CHANGES, COMPONENT, FAILED
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Watcher"]

_CAUSE_CHARACTERS = 500

logger = create_service_logger("huleedu_service_libs.health")


class Watcher:
    """One component's watcher.

    Args:
        probe: What to look at.
        service_name: For metrics and log.
        clock: Monotonic seconds.
        now: Time of day.
    """

    def __init__(self, probe: Probe, service_name: str, *, clock: _clock.Clock, now: _clock.Now) -> None:
        self.probe = probe
        self._service = service_name
        self._clock, self._now = clock, now
        self._damped: Damped[Finding] = Damped(probe.damping)
        self._left_behind: asyncio.Future[Finding | None] | None = None
        self._state = ComponentState(name=probe.name, kind=probe.kind, impact=probe.impact)

    @property
    def state(self) -> ComponentState:
        """What is told of it now."""
        return self._state

    async def look(self) -> ComponentState:
        """Look once, within the time limit; never raises but for cancellation."""
        began = self._clock()
        finding = self._clean(await self._find())
        at, took_s = self._now(), self._clock() - began
        change = self._damped.observe(finding.level, at, finding)
        told = self._damped.what or finding
        level = Level(self._damped.level or 0)
        self._state = ComponentState(
            name=self.probe.name,
            kind=self.probe.kind,
            impact=self.probe.impact,
            level=level,
            cause=told.cause if level else None,
            since=self._damped.since,
            details=finding.details,
            looked_at=at,
            took_s=round(took_s, 6),
            pending=finding.level if finding.level != level else None,
        )
        COMPONENT.labels(self._service, self.probe.name).set(level)
        if finding.level is Level.FAIL:
            FAILED.labels(self._service, self.probe.name).inc()
        if change is not None:
            self._tell(change)
        return self._state

    async def _find(self) -> Finding:
        if self._left_behind is not None and not self._left_behind.done():
            return self._failed(TimeoutError("an earlier look still hangs; no further one is started until it ends"))
        try:
            return await limited(self.probe.look(), limit_s=self.probe.timeout_s, left=self._note_left) or PASSING
        except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding
            return self._failed(error)

    def _note_left(self, task: "asyncio.Future[Finding | None]") -> None:
        self._left_behind = task

    def _clean(self, finding: object) -> Finding:
        """The same without secrets; what is none, or has details without keys, is a failed look."""
        if not isinstance(finding, Finding):
            kind = type(finding).__name__
            return self._failed(TypeError(f"the look returned {kind}: return a Finding, or None where all is well"))
        try:
            level, details = Level(finding.level), plain(dict(finding.details))
        except (TypeError, ValueError) as error:
            return self._failed(error)
        cause = None if finding.cause is None else plain_text(mask_url_credentials(finding.cause), _CAUSE_CHARACTERS)
        return Finding(level=level, cause=cause, details=details if isinstance(details, dict) else {})

    @staticmethod
    def _failed(error: BaseException) -> Finding:
        speaks = isinstance(error, TimeoutError | ComponentDownError) and str(error)
        text = str(error) if speaks else error_text(error)
        return Finding(level=Level.FAIL, cause=text.partition("\n")[0])  # drivers add statements and links below

    def _tell(self, change: Change) -> None:
        after = Level(change.after)
        CHANGES.labels(self._service, self.probe.name, after.word).inc()
        if change.before is None and not after:
            return  # well from the beginning
        state = self._state
        fields = {
            "service": self._service,
            "component": state.name,
            "before": None if change.before is None else Level(change.before).word,
            "after": after.word,
            "impact": state.impact.value,
            "since": change.since.isoformat(),
        }
        if after:
            logger.warning("health_component_changed", **fields, cause=state.cause)
        else:
            logger.info("health_component_changed", **fields)
