"""Back-off: when a key, or everything, is tried again."""

import pytest

from huleedu_service_libs.outbox.schedule import Backoff, Held


def test_delays_double_up_to_the_limit() -> None:
    """Without jitter the delay is half the exponential value, and never beyond half the limit."""
    backoff = Backoff(jitter=lambda: 0.0)
    assert [round(backoff.failed(1.0), 3) for _ in range(6)] == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_jitter_spreads_between_half_and_whole() -> None:
    """Jitter adds up to the other half."""
    assert Backoff(jitter=lambda: 0.999999).failed(30.0) < 0.1
    assert Backoff(jitter=lambda: 0.0).failed(30.0) == 0.05


@pytest.mark.parametrize("longest", [0.0, -1.0, float("nan")])
def test_no_setting_makes_a_busy_loop(longest: float) -> None:
    """A limit that makes no sense is a short delay, not none."""
    backoff = Backoff(jitter=lambda: 0.0)
    assert [backoff.failed(longest) for _ in range(3)] == [0.005] * 3


def test_success_begins_anew() -> None:
    """After a success the next failure waits as long as the first."""
    backoff = Backoff(jitter=lambda: 0.0)
    first = backoff.failed(30.0)
    backoff.failed(30.0)
    backoff.succeeded()
    assert backoff.failed(30.0) == first


def test_held_keys_come_due_by_the_clock() -> None:
    """A held key is held until its delay has passed, longer each time, and forgotten when released."""
    now = 0.0
    keys = Held(lambda: now, jitter=lambda: 0.0)
    keys.hold("a", 30.0)
    assert keys.held() == ["a"]
    assert keys.next_due() == 0.05
    now = 0.06
    assert keys.held() == []
    keys.hold("a", 30.0)
    assert round(keys.next_due() or 0, 3) == 0.1
    keys.release("a")
    assert keys.held() == []
    assert keys.next_due() is None
