"""The section of the console that shows how the parts of a service are, and since when. It only shows."""

from datetime import datetime

from huleedu_service_libs import _clock
from huleedu_service_libs.console.ages import ago
from huleedu_service_libs.console.sections import Cell, Reading, Row, Table, Tone
from huleedu_service_libs.health.findings import ComponentState, Impact, Level
from huleedu_service_libs.health.service import ServiceHealth

__all__ = ["HealthSection"]

_TONES = {Level.PASS: Tone.GOOD, Level.WARN: Tone.WARNING, Level.FAIL: Tone.BAD}
_MEANS = {
    Impact.DEGRADES: "the service goes on, degraded",
    Impact.UNREADY: "this replica gets no traffic",
    Impact.RESTART: "this process is restarted",
}


class HealthSection:
    """Shows every component of a `ServiceHealth`, the worst first.

    Args:
        health: Of the service.
        now: The time of day, for ages.

    Attributes:
        name: See `Section`.
        title: See `Section`.
    """

    name = "health"
    title = "Health"

    def __init__(self, health: ServiceHealth, *, now: _clock.Now = _clock.utc_now) -> None:
        self._health = health
        self._now = now

    async def read(self) -> Reading:
        """See `Section`."""
        verdict, states = self._health.overall(), self._health.states()
        words = {Level.PASS: "Healthy", Level.WARN: "Degraded", Level.FAIL: "Not ready"}
        why = f": {'; '.join(verdict.causes)}" if verdict.causes else ""
        table = Table(
            caption="Components",
            columns=("Component", "State", "Cause", "Since", "A failure means", "Last look"),
            rows=[self._row(state) for state in states],
        )
        return Reading(
            data={
                "life": self._health.life.value,
                "live": self._health.live().level.word,
                "ready": self._health.ready().level.word,
                "components": [_as_json(state) for state in states],
            },
            summary=f"{words[verdict.level]}{why}".rstrip(".") + ".",
            tone=_TONES[verdict.level],
            tables=[table],
        )

    def _row(self, state: ComponentState) -> Row:
        shown = Cell(text="unknown") if state.level is None else Cell(text=state.level.word, tone=_TONES[state.level])
        return Row(
            target=state.name,
            cells=(
                state.name,
                shown,
                state.cause or "-",
                self._age(state.since),
                _MEANS[state.impact],
                self._age(state.looked_at),
            ),
        )

    def _age(self, moment: datetime | None) -> Cell:
        if moment is None:
            return Cell(text="-")
        return Cell(text=ago((self._now() - moment).total_seconds()), hint=moment.isoformat())


def _as_json(state: ComponentState) -> dict[str, object]:
    return {
        "name": state.name,
        "level": None if state.level is None else state.level.word,
        "cause": state.cause,
        "since": None if state.since is None else state.since.isoformat(),
        "impact": state.impact.value,
        "details": dict(state.details),
    }
