"""The watermark against a naive model: a list of offsets, and which of them are finished."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from huleedu_service_libs.kafka.consumer.watermark import Watermark


class WatermarkMachine(RuleBasedStateMachine):
    """Offsets begin in rising order with gaps and finish in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.watermark = Watermark()
        self.begun: list[int] = []
        self.finished: set[int] = set()

    @rule(gap=st.integers(0, 5))
    def begin(self, gap: int) -> None:
        offset = (self.begun[-1] + 1 if self.begun else 0) + gap
        self.watermark.begin(offset)
        self.begun.append(offset)

    @precondition(lambda self: set(self.begun) - self.finished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(set(self.begun) - self.finished)))
        self.watermark.finish(offset)
        self.finished.add(offset)

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def begin_again(self, data: st.DataObject) -> None:
        with pytest.raises(ValueError, match="does not come after"):
            self.watermark.begin(data.draw(st.sampled_from(self.begun)))

    @rule(data=st.data())
    def finish_what_is_not_in_progress(self, data: st.DataObject) -> None:
        unknown = (self.begun[-1] if self.begun else 0) + 1
        offset = data.draw(st.sampled_from([*sorted(self.finished), unknown]))
        with pytest.raises(ValueError, match="not in progress"):
            self.watermark.finish(offset)

    @invariant()
    def position_is_after_the_finished_prefix(self) -> None:
        prefix = []
        for offset in self.begun:
            if offset not in self.finished:
                break
            prefix.append(offset)
        assert self.watermark.position == (prefix[-1] + 1 if prefix else None)

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        unfinished = [offset for offset in self.begun if offset not in self.finished]
        assert self.watermark.unfinished == len(unfinished)
        assert self.watermark.oldest == (unfinished[0] if unfinished else None)
        beyond = [offset for offset in self.begun if unfinished and offset >= unfinished[0]]
        assert self.watermark.span == len(beyond)


TestWatermark = WatermarkMachine.TestCase
