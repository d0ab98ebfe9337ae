"""The damped state of a component, in any order of looks."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.health.damping import Damped, Damping

START = datetime(2026, 1, 1, tzinfo=UTC)
LEVELS = st.integers(0, 2)
DAMPINGS = st.builds(Damping, falls_after=st.integers(1, 5), rises_after=st.integers(1, 5))


def at(second: int) -> datetime:
    """So many seconds after the start."""
    return START + timedelta(seconds=second)


def told(damping: Damping, levels: list[int]) -> list[int]:
    """What is told after each look."""
    damped: Damped[int] = Damped(damping)
    seen = []
    for second, level in enumerate(levels):
        damped.observe(level, at(second), second)
        assert damped.level is not None
        seen.append(damped.level)
    return seen


@given(DAMPINGS, st.lists(LEVELS, min_size=1, max_size=60))
def test_no_change_without_looks_that_agree(damping: Damping, levels: list[int]) -> None:
    """It gets worse only to what the last looks all reach, better only to what none of them exceeds."""
    seen = told(damping, levels)
    assert seen[0] == levels[0]
    for index in range(1, len(levels)):
        before, after = seen[index - 1], seen[index]
        if after > before:
            recent = levels[: index + 1][-damping.falls_after :]
            assert len(recent) == damping.falls_after
            assert after == min(recent)
        elif after < before:
            recent = levels[: index + 1][-damping.rises_after :]
            assert len(recent) == damping.rises_after
            assert after == max(recent)


@given(DAMPINGS, st.lists(LEVELS, max_size=40), LEVELS)
def test_what_lasts_is_told(damping: Damping, levels: list[int], level: int) -> None:
    """When looks keep finding the same it is told, after as many of them as were asked for at most."""
    needed = max(damping.falls_after, damping.rises_after)
    assert told(damping, [*levels, *[level] * needed])[-1] == level


@given(
    st.builds(Damping, falls_after=st.integers(2, 5), rises_after=st.integers(2, 5)),
    st.integers(2, 40),
    st.sampled_from([0, 2]),
)
def test_flapping_changes_nothing(damping: Damping, looks: int, first: int) -> None:
    """Well and failed by turns stays what it was at first."""
    levels = [first if index % 2 == 0 else 2 - first for index in range(looks)]
    assert set(told(damping, levels)) == {levels[0]}


@given(DAMPINGS, st.lists(LEVELS, min_size=1, max_size=60))
def test_since_is_the_first_look_that_found_it(damping: Damping, levels: list[int]) -> None:
    """The state dates from a look, not from the one that tipped it: all looks since then are on its side."""
    damped: Damped[int] = Damped(damping)
    for second, level in enumerate(levels):
        change = damped.observe(level, at(second), second)
        if change is not None:
            assert change.since == damped.since
            first = round((change.since - START).total_seconds())
            worse = change.before is None or change.after > change.before
            since_then = levels[first : second + 1]
            assert all(each >= change.after if worse else each <= change.after for each in since_then)


@given(DAMPINGS, st.lists(LEVELS, min_size=1, max_size=60))
def test_what_is_kept_belongs_to_the_level(damping: Damping, levels: list[int]) -> None:
    """The finding that is shown is as bad as what is told; a good one where all is well."""
    damped: Damped[int] = Damped(damping)
    for second, level in enumerate(levels):
        damped.observe(level, at(second), level)
        assert damped.level is not None
        assert damped.what is not None
        assert damped.what >= damped.level if damped.level else damped.what == 0


@pytest.mark.parametrize("name", ["falls_after", "rises_after"])
def test_nonsense_is_refused(name: str) -> None:
    """Fewer than one look cannot agree."""
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        Damping(**{name: 0})
