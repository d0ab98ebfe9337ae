"""What waits after a failure, and when a relay that reaches nothing gives up its share: pure, by a clock of the test."""

from typing import Any

import pytest

from huleedu_service_libs.outbox.batch import Batch, judge
from huleedu_service_libs.outbox.setbacks import LEAVE_AFTER_BATCHES, MOST_HELD_KEYS, Setbacks
from huleedu_service_libs.protocols import DeliveryOutcome

from .doubles import Event

ARRIVED = DeliveryOutcome()
AWAY = DeliveryOutcome(error=ConnectionError("no leader"), transient=True)
REFUSED = DeliveryOutcome(error=ValueError("too large"))


class Clock:
    """Stands still until it is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(name="clock")
def _clock() -> Clock:
    return Clock()


@pytest.fixture(name="setbacks")
def _setbacks(clock: Clock) -> Setbacks:
    return Setbacks(clock, jitter=lambda: 0.0)


def batch(*outcomes: tuple[str, str, DeliveryOutcome]) -> Batch:
    """What became of an event each, given as key, topic and outcome."""
    events: list[Any] = [Event(event_key=key, topic=topic) for key, topic, _ in outcomes]
    return judge(events, [outcome for *_, outcome in outcomes])


def test_a_relay_reaches_nothing_after_some_fruitless_batches_in_a_row(setbacks: Setbacks) -> None:
    """Each that met an outage and brought nothing counts; the outage is new until the first of them."""
    assert setbacks.outage_is_new
    for _ in range(LEAVE_AFTER_BATCHES):
        assert not setbacks.reaches_nothing
        assert setbacks.note(batch(("a", "t", AWAY)), [], 30.0).keys() == {"t"}
        assert not setbacks.outage_is_new
    assert setbacks.reaches_nothing


@pytest.mark.parametrize("other", [("b", "u", ARRIVED), ("b", "u", REFUSED)], ids=["one arrives", "no outage"])
def test_a_batch_that_was_not_fruitless_begins_the_count_anew(
    setbacks: Setbacks, other: tuple[str, str, DeliveryOutcome]
) -> None:
    """Whatever arrives shows that something is reached; so does a refusal."""
    for _ in range(LEAVE_AFTER_BATCHES):
        setbacks.note(batch(("a", "t", AWAY)), [], 30.0)
    setbacks.note(batch(other, *([("a", "t", AWAY)] if other[2] is ARRIVED else [])), [], 30.0)
    assert setbacks.outage_is_new
    assert not setbacks.reaches_nothing


def test_nothing_is_looked_for_only_while_nothing_is_reached(setbacks: Setbacks, clock: Clock) -> None:
    """One topic that is out of reach holds itself alone; after the last fruitless batch the relay waits for it to come due."""
    for _ in range(LEAVE_AFTER_BATCHES - 1):
        setbacks.note(batch(("a", "t", AWAY)), [], 30.0)
        assert setbacks.held_topics() == ["t"]
        assert setbacks.blocked_seconds() == 0.0
    held = setbacks.note(batch(("a", "t", AWAY)), [], 30.0)
    assert setbacks.blocked_seconds() == held["t"] == 0.2
    clock.now = 0.3
    assert (setbacks.held_topics(), setbacks.blocked_seconds()) == ([], 0.0)


def test_a_key_waits_alone_and_goes_on_when_its_event_has_left_or_is_parked(setbacks: Setbacks) -> None:
    """A refused event holds its key, not its topic; the event that left, and the one that was given up, release it."""
    first = batch(("a", "t", REFUSED), ("b", "t", ARRIVED), ("c", "t", REFUSED))
    setbacks.note(first, [], 30.0)
    assert (sorted(setbacks.held_keys()), setbacks.held_topics()) == (["a", "c"], [])
    assert setbacks.next_due() == 0.05
    setbacks.note(batch(("a", "t", ARRIVED), ("b", "t", REFUSED)), [], 30.0)
    again = batch(("c", "t", REFUSED))
    setbacks.note(again, [failed.event for failed in again.failed], 30.0)
    assert setbacks.held_keys() == ["b"]


def test_a_clean_batch_leaves_nothing_behind(setbacks: Setbacks) -> None:
    """After it the next outage is new, and nothing waits."""
    setbacks.note(batch(("a", "t", ARRIVED), ("b", "t", ARRIVED)), [], 30.0)
    assert setbacks.outage_is_new
    assert (setbacks.held_keys(), setbacks.held_topics(), setbacks.next_due()) == ([], [], None)


def test_beyond_so_many_failing_keys_the_relay_waits(setbacks: Setbacks, clock: Clock) -> None:
    """It would search past them in vain: nothing is looked for until the first of them comes due."""
    refused = [(f"key-{number}", "t", REFUSED) for number in range(MOST_HELD_KEYS)]
    setbacks.note(batch(*refused[1:]), [], 30.0)
    assert setbacks.blocked_seconds() == 0.0
    setbacks.note(batch(refused[0]), [], 30.0)
    assert setbacks.blocked_seconds() == 0.05
    clock.now = 0.06
    assert setbacks.blocked_seconds() == 0.0
