"""Watching a database must never disturb it: what goes wrong here is counted, and logged now and then."""

from huleedu_service_libs._clock import monotonic
from huleedu_service_libs._metrics import counter
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["note_survived"]

_SURVIVED = counter(
    "huleedu_database_monitoring_errors_total",
    "Errors of the database monitoring itself, which the service did not notice",
    ("part",),
)
_LOG_EVERY_S = 60.0

_logger = create_service_logger("huleedu_service_libs.database")
_last_line: dict[str, float] = {}


def note_survived(part: str, error: BaseException) -> None:
    """Count an error of ours, and log it unless ``part`` has told of one within the last minute."""
    _SURVIVED.labels(part=part).inc()
    now = monotonic()
    if now - _last_line.get(part, float("-inf")) >= _LOG_EVERY_S:
        _last_line[part] = now
        _logger.warning("database_monitoring_error", part=part, error=error_text(error))
