"""The counting windows against lists that remember everything."""

from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.resilience.policy import CountWindow, TimeWindow
from huleedu_service_libs.resilience.windows import FAILED, SLOW, CountingWindow, SlicedWindow

RESULTS = st.sampled_from([0, 0, SLOW, FAILED, FAILED | SLOW])


def _enough(policy: CountWindow | TimeWindow, results: list[int]) -> bool:
    """The definition: shares of the calls that are remembered."""
    failures = sum(result & FAILED for result in results)
    slow = sum(result >> 1 for result in results)
    if len(results) < policy.minimum_calls:
        return False
    return (failures > 0 and failures >= policy.failure_rate * len(results)) or (
        policy.slow_rate is not None and slow > 0 and slow >= policy.slow_rate * len(results)
    )


@given(
    results=st.lists(RESULTS, max_size=80),
    size=st.integers(3, 10),
    minimum=st.integers(1, 3),
    rate=st.sampled_from([0.1, 0.5, 1.0]),
    slow_rate=st.sampled_from([None, 0.5]),
)
def test_count_window(results: list[int], size: int, minimum: int, rate: float, slow_rate: float | None) -> None:
    """After every call it says what the last ``size`` results say."""
    policy = CountWindow(size=size, minimum_calls=minimum, failure_rate=rate, slow_rate=slow_rate)
    window = CountingWindow(policy)
    for number, result in enumerate(results, start=1):
        assert window.record(result, 0.0) == _enough(policy, results[:number][-size:])


@given(
    calls=st.lists(st.tuples(RESULTS, st.sampled_from([0.0, 0.1, 0.5, 1.0, 3.0, 11.0])), max_size=60),
    rate=st.sampled_from([0.3, 0.5, 1.0]),
)
def test_time_window(calls: list[tuple[int, float]], rate: float) -> None:
    """It remembers whole slices: the current one, and the nine before it, counted from the first call."""
    policy = TimeWindow(seconds=10, slices=10, minimum_calls=2, failure_rate=rate)
    window = SlicedWindow(policy)
    now, seen = 1000.0, []
    for result, pause in calls:
        now += pause
        place = int(now - 1000.0 - (calls[0][1]) + 1e-6)
        seen.append((place, result))
        remembered = [each for where, each in seen if where > place - 10]
        assert window.record(result, now + 1e-6) == _enough(policy, remembered)
