"""What the states of all components, and the service's own, come to: alive, started, ready, and how well. Pure.

Three questions that an orchestrator asks, and three different answers to a dead database: alive, yes, a restart does
not bring it back; started, yes; ready, yes and degraded, since the other replicas have no database either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from huleedu_service_libs.health.findings import ComponentState, Impact, Level, Life

__all__ = ["Verdict", "overall", "verdict_on_life", "verdict_on_readiness", "verdict_on_start"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An answer.

    Attributes:
        level: ``FAIL`` is 503.
        causes: Why it is not ``PASS``, in sentences.
    """

    level: Level
    causes: tuple[str, ...] = ()


def verdict_on_life(life: Life, states: Sequence[ComponentState]) -> Verdict:
    """Whether a restart would help. While it starts or drains loops stand still on purpose: never then."""
    if life is not Life.RUNNING:
        return Verdict(level=Level.PASS)
    dead = [each for each in states if each.impact is Impact.RESTART and each.level is Level.FAIL]
    return Verdict(level=Level.FAIL if dead else Level.PASS, causes=_causes(dead))


def verdict_on_start(life: Life) -> Verdict:
    """Whether the start is over."""
    if life is Life.STARTING:
        return Verdict(level=Level.FAIL, causes=("the service is starting",))
    return Verdict(level=Level.PASS)


def verdict_on_readiness(life: Life, states: Sequence[ComponentState]) -> Verdict:
    """Whether this replica should get traffic; ``WARN`` is yes, degraded."""
    if life is Life.STARTING:
        return verdict_on_start(life)
    if life is Life.DRAINING:
        return Verdict(level=Level.FAIL, causes=("the service is stopping and takes no new work",))
    failed = [each for each in states if each.level is Level.FAIL and each.impact is not Impact.DEGRADES]
    if failed:
        return Verdict(level=Level.FAIL, causes=_causes(failed))
    unwell = [each for each in states if each.level]
    return Verdict(level=Level.WARN if unwell else Level.PASS, causes=_causes(unwell))


def overall(life: Life, states: Sequence[ComponentState]) -> Verdict:
    """Readiness, with everything that is not well: what people want to read."""
    ready = verdict_on_readiness(life, states)
    own = () if life is Life.RUNNING else ready.causes
    return Verdict(level=ready.level, causes=(*own, *_causes(each for each in states if each.level)))


def _causes(states: Iterable[ComponentState]) -> tuple[str, ...]:
    return tuple(f"{each.name}: {each.cause or 'not well'}" for each in states)
