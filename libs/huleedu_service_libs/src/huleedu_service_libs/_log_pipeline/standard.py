"""Records of the standard library, drawn and written like every other line.

Who configures the `logging` module for itself (web servers do, and so does ``logging.basicConfig``) writes to the
terminal past all of this: without ids, without redaction, often twice. `take_over` ends that.
"""

import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from huleedu_service_libs._log_pipeline.cleaning import clean_text
from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.logger import event_text, level_name, write_failure
from huleedu_service_libs._log_pipeline.places import Place
from huleedu_service_libs._log_pipeline.rendering import text_of
from huleedu_service_libs._log_pipeline.sink import write_line

__all__ = ["RootHandler", "redact_last_resort", "take_over"]

# The last is uvicorn's: the message once more, with colours.
_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


class RootHandler(logging.Handler):
    """Writes records to the same place as everything else, with their own time and call site.

    Args:
        line: Puts them together.
    """

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        """Draw and write; of a record that cannot be drawn what is left, and it is counted."""
        try:
            write_line(self._drawn(record))
        except Exception as error:  # noqa: BLE001  # logging must not stop the service
            write_failure(level_name(record.levelno), record.msg, error)

    def _drawn(self, record: logging.LogRecord) -> str | bytes:
        return self._line.draw_record(
            _level(record),
            _message(record),
            _fields(record),
            datetime.fromtimestamp(record.created, UTC),
            Place(record.filename, record.funcName or "?", record.lineno),
        )


def _level(record: logging.LogRecord) -> str:
    """A level of its own has a name, such as ``TRACE``, or is one of ours for those who count lines."""
    name = record.levelname.lower()
    return level_name(record.levelno) if name.startswith("level ") else name


def _message(record: logging.LogRecord) -> str:
    """As our own loggers do it: a text that does not fit its arguments keeps both."""
    try:
        return record.getMessage().rstrip("\n")  # a warning ends with one
    except Exception:  # noqa: BLE001  # the standard library prints a traceback instead of the record
        return f"{event_text(record.msg)} {text_of(record.args)}"


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


def take_over() -> None:
    """From now on what loggers would write to the terminal themselves goes to the root logger instead.

    Handlers that write elsewhere (files, collectors) stay.
    """
    for logger in _all_loggers():
        writing = [each for each in logger.handlers if _writes_to_terminal(each)]
        for handler in writing:
            logger.removeHandler(handler)
        if writing:
            logger.propagate = True


def _all_loggers() -> Iterator[logging.Logger]:
    yield logging.root
    yield from [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]


def _writes_to_terminal(handler: logging.Handler) -> bool:
    streams = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    if type(handler) is not logging.StreamHandler:  # whoever made a class of their own wants something of it
        return False
    return any(handler.stream is each for each in streams if each is not None)


class _WithoutSecrets(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return clean_text(super().format(record))


def redact_last_resort() -> None:
    """Take secrets out of what the standard library prints while nobody has configured it."""
    last = logging.lastResort
    if last is not None and last.formatter is None:
        last.setFormatter(_WithoutSecrets())
