"""What the states of components mean for an orchestrator."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.health.findings import ComponentState, Impact, Level, Life
from huleedu_service_libs.health.verdicts import overall, verdict_on_life, verdict_on_readiness, verdict_on_start

STATES = st.lists(
    st.builds(
        ComponentState,
        name=st.sampled_from(["database", "kafka", "consumer"]),
        kind=st.just("component"),
        impact=st.sampled_from(Impact),
        level=st.sampled_from([None, *Level]),
    ),
    max_size=5,
)


def state(impact: Impact, level: Level, cause: str = "it is gone") -> ComponentState:
    """A component's state."""
    return ComponentState(name="part", kind="component", impact=impact, level=level, cause=cause)


def test_a_shared_dependency_degrades() -> None:
    """A dead database leaves the replica ready and alive, and is told with its cause."""
    states = [state(Impact.DEGRADES, Level.FAIL)]

    ready = verdict_on_readiness(Life.RUNNING, states)

    assert (ready.level, ready.causes) == (Level.WARN, ("part: it is gone",))
    assert verdict_on_life(Life.RUNNING, states).level is Level.PASS


def test_a_replica_s_own_part_takes_it_out() -> None:
    """A failed part of this replica makes it unready, and no restart is asked for."""
    states = [state(Impact.UNREADY, Level.FAIL)]

    assert verdict_on_readiness(Life.RUNNING, states).level is Level.FAIL
    assert verdict_on_life(Life.RUNNING, states).level is Level.PASS


def test_what_only_a_restart_mends_asks_for_one() -> None:
    """A dead loop fails liveness and readiness."""
    states = [state(Impact.RESTART, Level.FAIL)]

    assert verdict_on_life(Life.RUNNING, states).level is Level.FAIL
    assert verdict_on_readiness(Life.RUNNING, states).level is Level.FAIL


@given(STATES)
def test_neither_start_nor_stop_is_a_reason_to_restart(states: list[ComponentState]) -> None:
    """While the service starts or drains it is alive whatever stands still, and takes no traffic."""
    for life in (Life.STARTING, Life.DRAINING):
        assert verdict_on_life(life, states).level is Level.PASS
        assert verdict_on_readiness(life, states).level is Level.FAIL


@given(STATES)
def test_a_warning_never_takes_a_replica_out(states: list[ComponentState]) -> None:
    """Without a failed component a running service is ready."""
    well = [each for each in states if each.level is not Level.FAIL]
    assert verdict_on_readiness(Life.RUNNING, well).level is not Level.FAIL
    assert verdict_on_life(Life.RUNNING, well).level is Level.PASS


@given(STATES)
def test_dead_is_never_ready(states: list[ComponentState]) -> None:
    """Who should be restarted gets no traffic, and the whole names every component that is not well."""
    ready = verdict_on_readiness(Life.RUNNING, states)
    assert ready.level >= verdict_on_life(Life.RUNNING, states).level
    whole = overall(Life.RUNNING, states)
    assert whole.level == ready.level
    assert len(whole.causes) == sum(1 for each in states if each.level)


@pytest.mark.parametrize(
    ("life", "level"), [(Life.STARTING, Level.FAIL), (Life.RUNNING, Level.PASS), (Life.DRAINING, Level.PASS)]
)
def test_the_start_is_over_once(life: Life, level: Level) -> None:
    """The startup probe fails until the service runs, and never again."""
    assert verdict_on_start(life).level is level


def test_the_order_of_components_changes_nothing() -> None:
    """Each order of the same states has the same level."""
    states = [state(Impact.DEGRADES, Level.WARN), state(Impact.UNREADY, Level.FAIL), state(Impact.RESTART, Level.PASS)]
    levels = {verdict_on_readiness(Life.RUNNING, each).level for each in itertools.permutations(states)}
    assert levels == {Level.FAIL}
