"""Lanes against a naive model: a list for each key, and which keys run or rest."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from huleedu_service_libs.kafka.consumer.lanes import KeyLanes, Lane

LIMIT = 3
Place = tuple[int, str]


class LanesMachine(RuleBasedStateMachine):
    """Items are added, taken, finished, set to rest, woken and dropped, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.lanes: KeyLanes[int] = KeyLanes(LIMIT)
        self.model: dict[Place, list[int]] = {}
        self.running: dict[Place, Lane[int]] = {}
        self.resting: dict[Place, Lane[int]] = {}
        self.forgotten: list[Lane[int]] = []
        self.number = 0

    @rule(group=st.integers(0, 1), key=st.sampled_from("abc"))
    def add(self, group: int, key: str) -> None:
        self.number += 1
        self.lanes.add(group, key, self.number)
        self.model.setdefault((group, key), []).append(self.number)

    @rule()
    def take(self) -> None:
        taken = self.lanes.take()
        free = [place for place in self.model if place not in self.running and place not in self.resting]
        if not free or len(self.running) >= LIMIT:
            assert taken is None
            return
        assert taken is not None
        lane, item = taken
        place = (lane.group, lane.key)
        assert place in free
        assert item == self.model[place][0]
        self.running[place] = lane

    @precondition(lambda self: self.running)
    @rule(data=st.data(), done=st.booleans())
    def end(self, data: st.DataObject, *, done: bool) -> None:
        place = data.draw(st.sampled_from(sorted(self.running)))
        lane = self.running.pop(place)
        if done:
            self.lanes.finish(lane)
            self.model[place].pop(0)
            if not self.model[place]:
                del self.model[place]
        else:
            self.lanes.rest(lane)
            self.resting[place] = lane

    @precondition(lambda self: self.resting)
    @rule(data=st.data())
    def wake(self, data: st.DataObject) -> None:
        self.lanes.wake(self.resting.pop(data.draw(st.sampled_from(sorted(self.resting)))))

    @precondition(lambda self: self.forgotten)
    @rule(data=st.data())
    def wake_what_was_dropped(self, data: st.DataObject) -> None:
        self.lanes.wake(data.draw(st.sampled_from(self.forgotten)))

    @rule(group=st.integers(0, 1))
    def drop(self, group: int) -> None:
        expected = 0
        for place in [place for place in self.model if place[0] == group]:
            if place in self.running:
                expected += len(self.model[place]) - 1
                del self.model[place][1:]
            else:
                expected += len(self.model.pop(place))
                if place in self.resting:
                    self.forgotten.append(self.resting.pop(place))
        assert self.lanes.drop(group) == expected

    @invariant()
    def sizes_are_those_of_the_model(self) -> None:
        assert self.lanes.running == len(self.running) <= LIMIT
        assert len(self.lanes) == len(self.model)


TestLanes = LanesMachine.TestCase


def test_keys_take_turns() -> None:
    """A key with many items does not run before others that have waited longer."""
    lanes: KeyLanes[str] = KeyLanes(1)
    for item in ("a1", "a2", "a3", "b1"):
        lanes.add(0, item[0], item)
    order = []
    while (taken := lanes.take()) is not None:
        order.append(taken[1])
        lanes.finish(taken[0])
    assert order == ["a1", "b1", "a2", "a3"]


def test_what_does_not_run_cannot_be_finished() -> None:
    """Finishing a lane twice is a mistake of the caller, and is told."""
    lanes: KeyLanes[int] = KeyLanes(1)
    lanes.add(0, "a", 1)
    lanes.add(0, "a", 2)
    taken = lanes.take()
    assert taken is not None
    lanes.finish(taken[0])
    with pytest.raises(ValueError, match="not running"):
        lanes.finish(taken[0])
