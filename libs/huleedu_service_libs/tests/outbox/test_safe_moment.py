"""Until when rows may leave in strict order: judged of the writers that were seen, without a database."""

from datetime import UTC, datetime, timedelta

from huleedu_service_libs.outbox.writers import SafePoint, Writer

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def _at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def _writer(name: str, started: float | None, *, pid: int | None = 1) -> Writer:
    moment = None if started is None else _at(started)
    return Writer(transaction=name, pid=pid, application="app", state="active", started=moment, age_seconds=None)


# --- how far may be read: pure


def test_without_writers_everything_before_the_reading_may_leave() -> None:
    """The moment is the server's clock, and nobody stands in the way."""
    assert SafePoint().advance(_at(5), []) == (_at(5), None)


def test_the_oldest_writer_holds_back() -> None:
    """Of several running writers the one that began first decides."""
    old, young = _writer("1/1", 2), _writer("2/1", 4)
    assert SafePoint().advance(_at(5), [young, old]) == (_at(2), old)


def test_a_writer_whose_start_is_hidden_is_bounded_by_the_last_reading_without_it() -> None:
    """Nothing leaves when the first reading already shows it; later ones know that it had not written before."""
    point, hidden, another = SafePoint(), _writer("1/1", None), _writer("1/2", None)
    assert point.advance(_at(5), [hidden]) == (None, hidden)
    assert point.advance(_at(6), [another]) == (_at(5), another)
    assert point.advance(_at(7), [another]) == (_at(5), another)
    assert point.advance(_at(8), []) == (_at(8), None)


def test_a_prepared_transaction_holds_what_was_safe_before() -> None:
    """It may have run under another name at the last reading, so only what was safe then is safe now."""
    point, running, prepared = SafePoint(), _writer("1/1", 3), _writer("-1/77", None, pid=None)
    assert point.advance(_at(5), [running]) == (_at(3), running)
    assert point.advance(_at(6), [prepared]) == (_at(3), prepared)


def test_a_clock_that_is_set_back_lets_nothing_leave_until_the_writers_of_that_time_have_ended() -> None:
    """Rows of running writers may now be older than their start."""
    point, writer = SafePoint(), _writer("1/1", 9)
    assert point.advance(_at(10), [writer]) == (_at(9), writer)
    assert point.advance(_at(5), [writer]) == (None, writer)
    assert point.advance(_at(11), [writer]) == (None, writer)
    assert point.advance(_at(12), []) == (_at(12), None)
