"""What a log call runs through: bound logger, processors, renderers, standard output.

`logging_utils` puts these together. Nothing here knows when or by whom logging
is configured. Its rule: a log call never raises and never stops the service;
what went wrong is counted (`swallowed_failures`, and the metric of the same meaning).
"""

import io
import json
import logging
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TextIO

import orjson
import structlog
from opentelemetry import trace
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from huleedu_service_libs._metrics import counter
from huleedu_service_libs._plain import redacted_field
from huleedu_service_libs._redaction import redact_within

__all__ = [
    "LineLogger",
    "LineLoggerFactory",
    "RootHandler",
    "ServiceBoundLogger",
    "add_record_fields",
    "add_trace_ids",
    "redact_fields",
    "render_json",
    "render_traceback",
    "set_threshold",
    "static_fields",
    "swallowed_failures",
    "write_line",
]


_TEXT = 65_536  # characters of one text that are looked through and written


@dataclass(slots=True)
class _State:
    threshold: int = logging.NOTSET
    swallowed: int = 0


_STATE = _State()

_SWALLOWED = counter("huleedu_log_failures_total", "Log lines that were lost or shortened.")


def swallowed_failures() -> int:
    """How many log lines of this process were lost or shortened since it started."""
    return _STATE.swallowed


def _note_failure() -> None:
    _STATE.swallowed += 1
    _SWALLOWED.inc()


def set_threshold(level: int) -> None:
    """Drop events below ``level`` (a number of the `logging` module) from now on."""
    _STATE.threshold = level


# --- standard output


def write_line(line: str) -> None:
    """Write one line to the present ``sys.stdout`` and flush it.

    Goes out as UTF-8 whatever the locale says, because JSON is UTF-8. A stream that is closed,
    broken or missing loses the line and is counted.
    """
    try:
        stream = sys.stdout
        raw = getattr(stream, "buffer", None)
        if raw is None:
            stream.write(line + "\n")
        else:
            raw.write(line.encode("utf-8", "backslashreplace") + b"\n")
        stream.flush()
    except Exception:  # noqa: BLE001  # logging must not stop the service
        _note_failure()


class LineLogger:
    """What structlog hands the rendered line to; every level does the same."""

    def msg(self, line: str) -> None:
        """Write the line."""
        write_line(line)

    log = debug = info = warn = warning = error = err = critical = fatal = failure = exception = msg


class LineLoggerFactory:
    """Makes `LineLogger`; takes and ignores the logger's name."""

    def __call__(self, *_args: Any) -> LineLogger:
        """One logger; it has no state."""
        return LineLogger()


# --- renderers


def _text(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # noqa: BLE001  # a broken __repr__ must not cost the line
        return f"<unprintable {type(value).__name__}>"


def render_json(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> str:
    """One JSON object; what JSON cannot hold is rendered with ``repr``."""
    try:
        return orjson.dumps(event_dict, default=_text, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError, RecursionError):
        return _render_json_slowly(event_dict)


def _render_json_slowly(event_dict: EventDict) -> str:
    # For what orjson refuses: lone surrogates, integers beyond 64 bits, cycles, tuple keys. Each
    # field is tried by itself, so that one bad value costs only itself its structure.
    fields: dict[str, Any] = {}
    for name, value in event_dict.items():
        try:
            json.dumps(value, default=_text)
            fields[str(name)] = value
        except (TypeError, ValueError, RecursionError):
            fields[str(name)] = _text(value)
    return json.dumps(fields, default=_text)


# --- processors


def static_fields(**fields: str) -> Processor:
    """A processor that adds ``fields`` where the event does not say otherwise."""

    def add(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        for name, value in fields.items():
            event_dict.setdefault(name, value)
        return event_dict

    return add


def add_trace_ids(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Add ``trace_id`` and ``span_id`` of the current span context, recorded here or passed on."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event_dict.setdefault("trace_id", format(context.trace_id, "032x"))
        event_dict.setdefault("span_id", format(context.span_id, "016x"))
    return event_dict


def redact_fields(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Take secrets out of every field; what holds none stays as it is."""
    # `exc_info`: what is left of it the console renderer hands to `render_traceback`.
    return {
        _safe_name(name): value if name == "exc_info" else redacted_field(str(name), value)
        for name, value in event_dict.items()
    }


def _safe_name(name: Any) -> str:
    text = str(name)
    return text if text.isidentifier() else redact_within(text, _TEXT)  # a word alone gives nothing away


def render_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """Write a traceback without secrets, for the console."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write(redact_within(text.getvalue(), _TEXT))


_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


def add_record_fields(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """Take ``logger_name`` and ``extra`` from a record of the standard library."""
    record: logging.LogRecord = event_dict["_record"]
    event_dict["logger_name"] = record.name
    extra = {name: value for name, value in record.__dict__.items() if name not in _RECORD_ATTRIBUTES}
    if extra:
        event_dict["extra"] = extra
    return event_dict


class RootHandler(logging.Handler):
    """Writes records of the standard library to the same place as everything else."""

    def emit(self, record: logging.LogRecord) -> None:
        """Format and write; a record that cannot be formatted is counted."""
        try:
            write_line(self.format(record))
        except Exception:  # noqa: BLE001  # logging must not stop the service
            _note_failure()


# --- the bound logger


def _interpolate(event: Any, args: tuple[Any, ...]) -> str:
    # As logging does: a sole mapping fills named places. A text that does not fit its arguments
    # keeps both rather than raising in the caller.
    values = args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args
    try:
        return str(event % values)
    except Exception:  # noqa: BLE001  # logging must not stop the service
        return f"{_event_text(event)} {_text(args)}"


def _event_text(event: object) -> str:
    try:
        return str(event)
    except Exception:  # noqa: BLE001  # a broken __str__ must not cost the line
        return _text(event)


def _asynchronous(name: str) -> Callable[..., Awaitable[None]]:
    async def method(self: "ServiceBoundLogger", *args: Any, **fields: Any) -> None:
        getattr(self, name)(*args, **fields)

    method.__name__ = "a" + name
    return method


class ServiceBoundLogger(structlog.BoundLoggerBase):
    """The methods that services call; filters by the process-wide threshold.

    The first positional argument is the event, further ones are interpolated with ``%``, every
    keyword becomes a field.
    """

    def _emit(self, level: int, name: str, args: tuple[Any, ...], fields: dict[str, Any]) -> None:
        if level < _STATE.threshold:
            return
        event, fields = _split(args, fields)
        try:
            positional, keywords = self._process_event(name, event, fields)
            getattr(self._logger, name)(*positional, **keywords)
        except structlog.DropEvent:
            return
        except Exception as error:  # noqa: BLE001  # logging must not stop the service
            _note_failure()
            failure = {
                "event": redact_within(_event_text(event), _TEXT),
                "level": name,
                "log_failure": redact_within(_text(error), _TEXT),
            }
            write_line(json.dumps(failure))

    def debug(self, *args: Any, **fields: Any) -> None:
        """Log at debug."""
        self._emit(logging.DEBUG, "debug", args, fields)

    def info(self, *args: Any, **fields: Any) -> None:
        """Log at info."""
        self._emit(logging.INFO, "info", args, fields)

    def warning(self, *args: Any, **fields: Any) -> None:
        """Log at warning."""
        self._emit(logging.WARNING, "warning", args, fields)

    def error(self, *args: Any, **fields: Any) -> None:
        """Log at error."""
        self._emit(logging.ERROR, "error", args, fields)

    def critical(self, *args: Any, **fields: Any) -> None:
        """Log at critical."""
        self._emit(logging.CRITICAL, "critical", args, fields)

    def exception(self, *args: Any, **fields: Any) -> None:
        """Log at error, with the active exception."""
        fields.setdefault("exc_info", True)
        self._emit(logging.ERROR, "error", args, fields)

    def log(self, level: int, *args: Any, **fields: Any) -> None:
        """Log at a level given as a number; the name is that of the next lower one."""
        self._emit(level, _level_name(level), args, fields)

    def is_enabled_for(self, level: int) -> bool:
        """Whether an event of ``level`` would be written."""
        return level >= _STATE.threshold

    msg = info
    warn = warning
    fatal = critical
    err = error
    adebug = _asynchronous("debug")
    ainfo = _asynchronous("info")
    awarning = _asynchronous("warning")
    aerror = _asynchronous("error")
    acritical = _asynchronous("critical")
    aexception = _asynchronous("exception")


def _split(args: tuple[Any, ...], fields: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if not args:
        return fields.pop("event", ""), fields
    if "event" in fields:  # a field of that name would hide the event itself
        fields["event_"] = fields.pop("event")
    event = args[0] if len(args) == 1 else _interpolate(args[0], args[1:])
    return event, fields


def _level_name(level: int) -> str:
    names = {logging.CRITICAL: "critical", logging.ERROR: "error", logging.WARNING: "warning", logging.INFO: "info"}
    return next((name for number, name in names.items() if level >= number), "debug")
