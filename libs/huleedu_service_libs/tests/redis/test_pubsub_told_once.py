"""What subscriptions tell of an outage: a line when the connection is lost, reminders, and one when it is back."""

from structlog.testing import capture_logs

from huleedu_service_libs._redis_pubsub.metrics import Reports


def test_attempts_to_connect_again_are_no_lines() -> None:
    """After the line of the loss, attempts that fail in the same way have none; the restoration tells their number."""
    reports = Reports("told-pubsub")
    with capture_logs() as logs:
        reports.lost(ConnectionError("reset"), channels=2)
        for attempt in range(1, 6):
            reports.still_away(ConnectionError("refused"), attempt)
        reports.restored(1.25, channels=2)
    assert [line["event"] for line in logs] == ["redis_pubsub_lost", "redis_pubsub_restored"]
    assert (logs[-1]["failures"], logs[-1]["seconds_away"]) == (6, 1.25)


def test_a_first_connection_that_is_refused_is_told_and_forgotten_once_it_stands() -> None:
    """A connection that never stood is told by its own line, anew after one that stood."""
    reports = Reports("told-first")
    with capture_logs() as logs:
        reports.still_away(ConnectionError("refused"), 1)
        reports.still_away(ConnectionError("refused"), 2)
        reports.stands()
        reports.still_away(ConnectionError("refused"), 1)
    assert [line["attempt"] for line in logs if line["event"] == "redis_pubsub_still_away"] == [1, 1]


def test_histories_that_cannot_be_read_are_one_trouble() -> None:
    """All readers' failures are one line, and the first history that is read is the end."""
    reports = Reports("told-history")
    with capture_logs() as logs:
        for _ in range(4):
            reports.read_failed(ConnectionError("away"))
        reports.read()
        reports.read()
    assert [line["event"] for line in logs] == ["redis_history_read_failed", "redis_history_trouble_over"]
    assert (logs[0]["in_a_row"], logs[1]["failures"]) == (1, 4)
