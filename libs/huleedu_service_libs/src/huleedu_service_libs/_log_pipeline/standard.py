"""Records of the standard library, drawn and written like every other line."""

import logging
from datetime import UTC, datetime
from typing import Any

from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.places import Place
from huleedu_service_libs._log_pipeline.sink import note_failure, write_line

__all__ = ["RootHandler"]

_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class RootHandler(logging.Handler):
    """Writes records to the same place as everything else, with their own time and call site.

    Args:
        line: Puts them together.
    """

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Draw and write; a record that cannot be drawn is counted."""
        try:
            write_line(self._drawn(record))
        except Exception:  # noqa: BLE001  # logging must not stop the service
            note_failure()

    def _drawn(self, record: logging.LogRecord) -> str | bytes:
        return self._line.draw_record(
            record.levelname.lower(),
            record.getMessage(),
            _fields(record),
            datetime.fromtimestamp(record.created, UTC),
            Place(record.filename, record.funcName or "?", record.lineno),
        )


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {"logger_name": record.name}
    extra = {name: value for name, value in record.__dict__.items() if name not in _RECORD_ATTRIBUTES}
    if extra:
        fields["extra"] = extra
    if record.exc_info:
        fields["exc_info"] = record.exc_info
    elif record.exc_text:  # it came from another process, which has drawn it
        fields["exception"] = record.exc_text
    if record.stack_info:
        fields["stack_info"] = record.stack_info
    return fields
