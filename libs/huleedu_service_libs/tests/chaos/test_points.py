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


def test_a_plan_travels_through_the_environment() -> None:
    """What a plan writes is what a child reads; without a point there is no plan."""
    plan = CrashPlan(point="after send", hit=7, action=Action.STOP)
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
