"""What fails again and again is told when it begins, now and then, and when it is over."""

from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs._troubles import Over, Troubles


class _Time:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_of_a_night_is_a_handful_of_lines() -> None:
    """Ten hours of a failure each second: a line at once, after one minute, two, four … up to an hour, with the number."""
    time = _Time()
    troubles = Troubles(time)
    told = {}
    for second in range(36_000):
        if failures := troubles.failed("storage", ConnectionError("away")):
            told[second] = failures
        time.now += 1.0
    assert list(told)[:6] == [0, 60, 180, 420, 900, 1860]
    assert all(failures == second + 1 for second, failures in told.items())
    gaps = [after - before for before, after in zip(list(told), list(told)[1:], strict=False)]
    assert max(gaps) == 3600
    assert troubles.worked("storage") == Over(failures=36_000, seconds=36_000.0)


def test_a_new_kind_of_error_is_told_at_once() -> None:
    """An outage that turns into another error has a line for that, once."""
    troubles = Troubles(_Time())
    kinds = [ConnectionError(), ConnectionError(), TimeoutError(), ConnectionError(), TimeoutError()]
    assert [troubles.failed("poll", error) for error in kinds] == [1, 0, 3, 0, 0]


def test_what_works_has_no_end_to_tell() -> None:
    """A success after a success says nothing, and after its end a trouble begins anew."""
    troubles = Troubles(_Time())
    assert troubles.worked("x") is None
    assert troubles.failed("x") == 1
    assert troubles.worked("x") == Over(failures=1, seconds=0.0)
    assert troubles.worked("x") is None
    assert troubles.failed("x") == 1


def test_troubles_have_names() -> None:
    """One thing that works ends nothing of another; the summary has the last error of each, without secrets."""
    troubles = Troubles(_Time())
    assert not troubles
    assert troubles.summary() is None
    troubles.failed("poll", ConnectionError("first"))
    troubles.failed("poll", ConnectionError("redis://user:secret@host"))
    troubles.failed("commit", TimeoutError("late"))
    assert troubles
    summary = troubles.summary() or ""
    assert "secret" not in summary
    assert summary.startswith("poll: ConnectionError: redis://")
    assert summary.endswith("; commit: TimeoutError: late")
    troubles.worked("poll")
    assert troubles.summary() == "commit: TimeoutError: late"


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("ab"), st.floats(0, 5000)), max_size=60))
def test_every_trouble_has_one_beginning_and_one_end(course: list[tuple[bool, str, float]]) -> None:
    """Whatever the course: the first failure is told, an end is told exactly once, with all failures counted."""
    time = _Time()
    troubles = Troubles(time)
    failing: dict[str, tuple[int, float]] = {}
    for works, name, seconds in course:
        if works:
            over, known = troubles.worked(name), failing.pop(name, None)
            assert (over is None) == (known is None)
            if over is not None and known is not None:
                assert over.failures == known[0]
                assert abs(over.seconds - (time.now - known[1])) < 0.01
        else:
            count, began = failing.get(name, (0, time.now))
            told = troubles.failed(name, OSError())
            assert told in {0, count + 1}
            assert told or count
            failing[name] = (count + 1, began)
        time.now += seconds
    assert bool(troubles) == bool(failing)
