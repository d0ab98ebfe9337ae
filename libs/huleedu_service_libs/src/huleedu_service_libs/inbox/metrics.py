"""Counters of the inbox."""

from huleedu_service_libs import _metrics

__all__ = ["BATCHES", "EVENTS", "FAST_PATH_ERRORS", "PURGED", "PURGE_ERRORS"]

EVENTS = _metrics.counter("inbox_events_total", "Deliveries by what the inbox made of them", ("consumer", "outcome"))
BATCHES = _metrics.counter(
    "inbox_batches_total", "Batches, done in one transaction or event by event after a failure", ("consumer", "way")
)
FAST_PATH_ERRORS = _metrics.counter(
    "inbox_fast_path_errors_total", "Times that Redis did not answer and PostgreSQL was asked", ("consumer",)
)
PURGED = _metrics.counter("inbox_purged_total", "Rows deleted after their retention", ())
PURGE_ERRORS = _metrics.counter("inbox_purge_errors_total", "Purges that failed and are tried again", ())
