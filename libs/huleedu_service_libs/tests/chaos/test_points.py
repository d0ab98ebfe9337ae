"""Crash points strike where the plan says, and nowhere else."""

import pytest

from huleedu_service_libs.testing.chaos.points import Action, CrashPlan, CrashPoints


class Port:
    """Something with an async method."""

    async def work(self) -> str:
        """Return a word."""
        return "done"


def _recorded(plan: CrashPlan | None) -> tuple[CrashPoints, list[Action]]:
    struck: list[Action] = []
    return CrashPoints(plan, strike=struck.append), struck


def test_only_the_chosen_hit_strikes() -> None:
    """Other points and other hits pass; the strike comes once."""
    points, struck = _recorded(CrashPlan(point="here", hit=2, action=Action.STOP))
    for name in ("here", "there", "here", "here"):
        points.reached(name)
    assert struck == [Action.STOP]


def test_hits_before_the_rest_is_over_do_not_count() -> None:
    """A process that is to leave the others time strikes at the first hit after that, however often it came before."""
    now, struck = 100.0, list[Action]()
    points = CrashPoints(CrashPlan(point="here", rest_s=5.0), strike=struck.append, clock=lambda: now)
    for now in (100.0, 104.9, 105.0, 106.0):
        points.reached("here")
        assert len(struck) == (now >= 105.0)


def test_the_rest_may_begin_when_the_work_does() -> None:
    """What a process needs to start is not taken from the others' time to recover."""
    now, struck = 100.0, list[Action]()
    points = CrashPoints(CrashPlan(point="here", rest_s=5.0), strike=struck.append, clock=lambda: now)
    now = 104.0
    points.rest()
    for now in (106.0, 108.9, 109.0):
        points.reached("here")
        assert len(struck) == (now >= 109.0)


def test_a_plan_travels_through_the_environment() -> None:
    """What a plan writes is what a child reads; without a point there is no plan."""
    plan = CrashPlan(point="after send", hit=7, action=Action.STOP, rest_s=2.5)
    assert CrashPlan.from_environment(plan.environment()) == plan
    assert CrashPlan.from_environment({}) is None
    assert CrashPlan.from_environment({"HULEEDU_CRASH_POINT": "x"}) == CrashPlan(point="x")


@pytest.mark.parametrize("hit", ["", "-1", "0", "soon"])
def test_a_hit_that_is_no_count_is_refused(hit: str) -> None:
    """The error names the variable or the field, and the value."""
    with pytest.raises(ValueError, match="from 1, not"):
        CrashPlan.from_environment({"HULEEDU_CRASH_POINT": "x", "HULEEDU_CRASH_HIT": hit})


async def test_a_point_that_is_not_chosen_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The class keeps the very function that it had."""
    monkeypatch.setattr(Port, "work", Port.work)
    before = Port.work
    points, _ = _recorded(CrashPlan(point="elsewhere"))
    points.around(Port, "work", before="here", during="mid", after="there")
    assert Port.work is before


@pytest.mark.parametrize("point", ["before", "mid", "after"])
async def test_points_around_a_method(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """Each strikes at its place; a process that goes on, because it was only stopped, gets the method's result."""
    monkeypatch.setattr(Port, "work", Port.work)
    points, struck = _recorded(CrashPlan(point=point, hit=2, action=Action.STOP))
    points.around(Port, "work", before="before", during="mid", after="after")
    assert [await Port().work() for _ in range(3)] == ["done"] * 3
    assert struck == [Action.STOP]


def test_a_method_that_is_not_there_is_an_error() -> None:
    """A renamed method must not turn a crash point into one that never strikes."""
    points, _ = _recorded(None)
    with pytest.raises(AttributeError, match="Port itself defines no 'labour'"):
        points.around(Port, "labour", before="x")
