"""The oracle finds what is lost, doubled, reordered or made up, and tells how long a recovery took."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.testing.chaos.oracle import Arrival, Effect, Kill, Written, judge, percentile


def _written(numbers: Sequence[int], key: str = "k") -> list[Written]:
    return [Written(key=key, number=number, at=float(number)) for number in numbers]


def _arrivals(numbers: Sequence[int], key: str = "k", partition: int = 0) -> list[Arrival]:
    return [
        Arrival(key=key, number=number, partition=partition, offset=offset, at=number + 0.5)
        for offset, number in enumerate(numbers)
    ]


def _effects(numbers: Sequence[int], key: str = "k") -> list[Effect]:
    return [Effect(key=key, number=number, place=place, at=number + 0.7) for place, number in enumerate(numbers)]


def test_a_run_without_faults_is_clean() -> None:
    """All arrive and take effect once, in order."""
    verdict = judge(_written([1, 2, 3]), _arrivals([1, 2, 3]), _effects([1, 2, 3]))
    assert (verdict.events, verdict.lost, verdict.reordered, list(verdict.doubled)) == (3, 0, 0, [])
    assert verdict.clean


def test_a_batch_that_is_sent_again_is_a_duplicate_and_no_disorder() -> None:
    """What counts is the order of first arrivals; duplicates are counted for the kill before them."""
    kills = [Kill(point="p", at=1.0), Kill(point="p", at=2.1)]
    arrivals = [
        Arrival(key="k", number=number, partition=0, offset=offset, at=at)
        for offset, (number, at) in enumerate([(1, 0.1), (2, 0.2), (1, 1.1), (2, 1.2), (3, 2.0), (3, 2.2)])
    ]
    verdict = judge(_written([1, 2, 3]), arrivals, kills=kills)
    assert verdict.clean
    assert (verdict.wire_duplicates, verdict.wire_duplicates_max) == (3, 2)


def test_duplicates_are_counted_for_the_pair_of_senders() -> None:
    """What two processes took over from two others at the same time is counted apart."""
    arrivals = [
        Arrival(key=key, number=number, partition=0, offset=offset, at=1.0, sender=sender)
        for offset, (key, number, sender) in enumerate(
            [("a", 1, "p"), ("a", 2, "p"), ("b", 1, "q"), ("a", 1, "r"), ("a", 2, "r"), ("b", 1, "r")]
        )
    ]
    verdict = judge([*_written([1, 2], "a"), *_written([1], "b")], arrivals)
    assert (verdict.wire_duplicates, verdict.wire_duplicates_max) == (3, 2)


@pytest.mark.parametrize(
    ("arrived", "effects", "fault"),
    [
        ([1, 3], [1, 3], "lost_on_wire"),
        ([1, 2, 3], [1, 3], "lost_effects"),
        ([1, 2, 3, 4], [1, 2, 3], "phantoms"),
        ([1, 3, 2], [1, 2, 3], "reordered_on_wire"),
        ([1, 2, 3], [2, 1, 3], "reordered_effects"),
        ([1, 2, 3], [1, 2, 2, 3], "doubled"),
    ],
)
def test_each_fault_is_found(arrived: Sequence[int], effects: Sequence[int], fault: str) -> None:
    """One event gone wrong is enough, and it is named."""
    verdict = judge(_written([1, 2, 3]), _arrivals(arrived), _effects(effects))
    assert len(getattr(verdict, fault)) == 1
    assert not verdict.clean


def _effects_by(*runs: tuple[int, str]) -> list[Effect]:
    return [Effect(key="k", number=n, place=place, at=1.0, process=by) for place, (n, by) in enumerate(runs)]


@pytest.mark.parametrize(
    ("runs", "doubled", "repeated"),
    [
        ([(1, "dead"), (1, "alive")], [], [1]),
        ([(1, "dead"), (1, "dead too"), (1, "alive")], [], [1]),
        ([(1, "alive"), (1, "dead")], [1], []),  # the first effect was confirmed: its process lives
        ([(1, "dead"), (1, "alive"), (1, "other")], [1], []),
        ([(1, "dead"), (2, "dead"), (1, "alive"), (2, "alive")], [], [1, 2]),
        ([(1, "dead"), (2, "dead"), (3, "dead"), (1, "alive"), (2, "alive"), (3, "alive")], [1, 2, 3], []),
    ],
)
def test_only_what_a_killed_process_was_about_to_confirm_may_be_repeated(
    runs: Sequence[tuple[int, str]], doubled: Sequence[int], repeated: Sequence[int]
) -> None:
    """A second effect is explained by the death of whoever had the first, for as many events as it had in hand."""
    numbers = sorted({number for number, _ in runs})
    kills = [Kill(point="p", at=1.0, process=name) for name in ("dead", "dead too")]
    effects = _effects_by(*runs)
    verdict = judge(_written(numbers), _arrivals(numbers), effects, kills, unconfirmed=2)
    assert ([n for _, n in verdict.doubled], [n for _, n in verdict.repeated]) == (doubled, repeated)
    with_inbox = judge(_written(numbers), _arrivals(numbers), effects, kills)
    assert not with_inbox.repeated
    assert not with_inbox.clean


def test_a_key_in_two_partitions_has_no_order() -> None:
    """The event that strayed is reordered, whatever its number."""
    verdict = judge(_written([1, 2]), [*_arrivals([1]), *_arrivals([2], partition=1)])
    assert verdict.reordered_on_wire == [("k", 2)]


def test_keys_are_judged_apart() -> None:
    """One key's numbers say nothing of another's."""
    arrivals = [*_arrivals([2, 3], key="a"), *_arrivals([1], key="b", partition=1)]
    verdict = judge([*_written([2, 3], "a"), *_written([1], "b")], arrivals)
    assert verdict.clean


def test_recovery_ends_when_all_that_waited_has_come() -> None:
    """Events written after the kill do not count; with effects, those are waited for."""
    written = [Written(key="k", number=number, at=at) for number, at in [(1, 0.0), (2, 0.9), (3, 5.0)]]
    arrivals = [
        Arrival(key="k", number=number, partition=0, offset=number, at=at)
        for number, at in [(1, 0.1), (2, 3.0), (3, 9.0)]
    ]
    effects = [Effect(key="k", number=number, place=number, at=at) for number, at in [(1, 0.2), (2, 4.0), (3, 9.5)]]
    kills = [Kill(point="p", at=1.0)]
    assert judge(written, arrivals, kills=kills).recoveries == [2.0]
    assert judge(written, arrivals, effects, kills).recoveries == [3.0]
    assert judge(written, arrivals, kills=[Kill(point="p", at=4.5)]).recoveries == [0.0]


@given(st.data())
def test_any_fault_in_any_history_is_found(data: st.DataObject) -> None:
    """A history with duplicates is clean; taking out, swapping or adding one event makes it unclean."""
    count = data.draw(st.integers(2, 30))
    cuts = sorted(data.draw(st.lists(st.integers(1, count), max_size=4)))
    arrived: list[int] = []
    for end in [*cuts, count]:  # each relay begins a little before the last one's end
        begin = data.draw(st.integers(1, max(arrived, default=0) + 1))
        arrived += range(begin, max(end, begin) + 1)
    numbers = range(1, max(arrived) + 1)
    assert judge(_written(numbers), _arrivals(arrived), _effects(numbers)).clean
    victim = data.draw(st.sampled_from(numbers))
    without = [number for number in arrived if number != victim]
    assert judge(_written(numbers), _arrivals(without), _effects(numbers)).lost_on_wire == [("k", victim)]
    assert judge(_written(numbers), _arrivals(arrived), _effects([*numbers, victim])).doubled == [("k", victim)]
    if victim < max(numbers):
        assert judge(_written(numbers), _arrivals([*without, victim])).reordered_on_wire == [("k", victim)]


def test_percentiles() -> None:
    """The nearest rank; nothing has none."""
    assert percentile([], 0.99) == 0.0
    assert percentile([3.0], 0.99) == 3.0
    assert percentile([float(number) for number in range(1, 101)], 0.99) == 99.0
    assert percentile([1.0, 2.0], 0.5) == 1.0
