"""The methods that services call, and the threshold below which they do nothing.

`ServiceLogger` is what `create_service_logger` gives; it decides nothing until it is
called, so that it may be made before logging is configured. `ServiceBoundLogger` is
the same for ``structlog.get_logger()``.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import structlog

from huleedu_service_libs._log_pipeline.cleaning import clean_text
from huleedu_service_libs._log_pipeline.pipeline import current_line, safe_line
from huleedu_service_libs._log_pipeline.rendering import text_of
from huleedu_service_libs._log_pipeline.sink import note_failure, write_line

__all__ = [
    "ServiceBoundLogger",
    "ServiceLogger",
    "event_text",
    "level_name",
    "set_threshold",
    "threshold",
    "write_failure",
]


@dataclass(slots=True)
class _State:
    threshold: int = logging.NOTSET


_STATE = _State()


def _emitting(name: str) -> Callable[..., None]:
    # The slash lets a field be called `self`.
    def method(self: "_Levels", /, *args: Any, **fields: Any) -> None:
        try:
            if len(args) == 1 and "event" not in fields:
                self._emit(name, args[0], fields)
            else:
                self._emit(name, *_split(args, fields))
        except Exception as error:  # noqa: BLE001  # logging must not stop the service
            write_failure(name, args[0] if args else fields.get("event", ""), error)

    method.__doc__ = f"Log at {name}: the event, arguments for its ``%``, fields."
    return method


def _silent(self: "_Levels", /, *args: Any, **fields: Any) -> None:
    """Below the threshold."""


def _asynchronous(name: str) -> Callable[..., Awaitable[None]]:
    async def method(self: "_Levels", /, *args: Any, **fields: Any) -> None:
        getattr(self, name)(*args, **fields)

    method.__name__ = "a" + name
    return method


class _Levels:
    """One method a level.

    The first positional argument is the event, further ones are interpolated with ``%``, every
    keyword becomes a field.
    """

    def _emit(self, name: str, event: Any, fields: dict[str, Any]) -> None:
        raise NotImplementedError

    debug = _emitting("debug")
    info = msg = _emitting("info")
    warning = warn = _emitting("warning")
    error = err = _emitting("error")
    critical = fatal = _emitting("critical")

    def exception(self, /, *args: Any, **fields: Any) -> None:
        """Log at error, with the active exception."""
        fields.setdefault("exc_info", True)
        self.error(*args, **fields)

    def log(self, level: int | str, /, *args: Any, **fields: Any) -> None:
        """Log at a level given as a name or a number: that of the next lower name; at info if it is neither."""
        number = _number(level)
        if number >= _STATE.threshold:
            _METHODS[level_name(number)][1](self, *args, **fields)

    def is_enabled_for(self, level: int) -> bool:
        """Whether an event of ``level`` would be written."""
        return level >= _STATE.threshold

    isEnabledFor = is_enabled_for  # noqa: N815  # as the standard library has it

    def get_effective_level(self) -> int:
        """The threshold, a number of the `logging` module."""
        return _STATE.threshold

    getEffectiveLevel = get_effective_level  # noqa: N815

    adebug = _asynchronous("debug")
    ainfo = amsg = _asynchronous("info")
    awarning = awarn = _asynchronous("warning")
    aerror = _asynchronous("error")
    acritical = afatal = _asynchronous("critical")
    alog = _asynchronous("log")
    aexception = _asynchronous("exception")


_METHODS: dict[str, tuple[int, Callable[..., None]]] = {
    "debug": (logging.DEBUG, _Levels.debug),
    "info": (logging.INFO, _Levels.info),
    "warning": (logging.WARNING, _Levels.warning),
    "error": (logging.ERROR, _Levels.error),
    "critical": (logging.CRITICAL, _Levels.critical),
}
_ALIASES = {"msg": "info", "warn": "warning", "err": "error", "fatal": "critical"}


def threshold() -> int:
    """Events below it are dropped; a number of the `logging` module."""
    return _STATE.threshold


def set_threshold(level: int) -> None:
    """Drop events below ``level`` from now on.

    Replaces the methods themselves, for loggers that exist already too: a call that is filtered out
    costs a call of an empty function, as structlog's own filtering logger does.
    """
    _STATE.threshold = level
    for alias, name in ({each: each for each in _METHODS} | _ALIASES).items():
        limit, emitting = _METHODS[name]
        setattr(_Levels, alias, emitting if limit >= level else _silent)


class ServiceLogger(_Levels):
    """Fields that stand on every line logged with it, and nothing else."""

    __slots__ = ("_context",)

    def __init__(self, context: dict[str, Any]) -> None:
        self._context = context  # the name that structlog.get_context() reads

    def bind(self, /, **values: Any) -> Self:
        """A logger with these fields too."""
        return type(self)({**self._context, **values})

    def new(self, /, **values: Any) -> Self:
        """A logger with these fields alone."""
        return type(self)(values)

    def unbind(self, *names: str) -> Self:
        """A logger without these fields.

        Raises:
            KeyError: One of them is not bound.
        """
        missing = [name for name in names if name not in self._context]
        if missing:
            raise KeyError(missing[0])
        return self.try_unbind(*names)

    def try_unbind(self, *names: str) -> Self:
        """A logger without these fields, as far as they are there."""
        return type(self)({name: value for name, value in self._context.items() if name not in names})

    def _emit(self, name: str, event: Any, fields: dict[str, Any]) -> None:
        line = current_line()
        if line is not None:
            write_line(line.draw(name, event, self._context, fields))
        else:
            other = structlog.wrap_logger(None, wrapper_class=ServiceBoundLogger).bind(**self._context)
            other._emit(name, event, fields)  # noqa: SLF001  # of this module

    def __repr__(self) -> str:
        return f"<service logger {self._context}>"


class ServiceBoundLogger(_Levels, structlog.BoundLoggerBase):
    """What ``structlog.get_logger()`` gives in a configured process; never raises either."""

    def _emit(self, name: str, event: Any, fields: dict[str, Any]) -> None:
        try:
            positional, keywords = self._process_event(name, event, fields)
        except structlog.DropEvent:
            return
        getattr(self._logger, name)(*positional, **keywords)


def write_failure(name: str, event: Any, error: Exception) -> None:
    """Count a line that could not be drawn, and write what is left of it. Never raises."""
    with suppress(Exception):  # at the end of the stack not even this may be possible
        note_failure()
        text = event_text(event)
        try:
            line = safe_line().draw_own(name, text, log_failure=text_of(error))
        except Exception:  # noqa: BLE001  # of whatever kept the line from being drawn
            line = json.dumps({"event": clean_text(text), "level": name, "log_failure": clean_text(text_of(error))})
        write_line(line)


def _split(args: tuple[Any, ...], fields: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if not args:
        return fields.pop("event", ""), fields
    if "event" in fields:  # a field of that name would hide the event itself
        fields["event_"] = fields.pop("event")
    return args[0] if len(args) == 1 else _interpolate(args[0], args[1:]), fields


def _interpolate(event: Any, args: tuple[Any, ...]) -> str:
    # As logging does: a sole mapping fills named places. A text that does not fit its arguments
    # keeps both rather than raising in the caller.
    values = args[0] if len(args) == 1 and isinstance(args[0], dict) and args[0] else args
    try:
        return str(event % values)
    except Exception:  # noqa: BLE001  # logging must not stop the service
        return f"{event_text(event)} {text_of(args)}"


def event_text(event: object) -> str:
    """``str``, else ``repr``, whatever the object does."""
    try:
        return str(event)
    except Exception:  # noqa: BLE001  # a broken __str__ must not cost the line
        return text_of(event)


def _number(level: int | str) -> int:
    if isinstance(level, int):
        return level
    name = str(level).lower()
    return _METHODS.get(_ALIASES.get(name, name), _METHODS["info"])[0]


def level_name(level: int) -> str:
    """The name of ``level``, or of the next lower one that has a name."""
    names = {logging.CRITICAL: "critical", logging.ERROR: "error", logging.WARNING: "warning", logging.INFO: "info"}
    return next((name for number, name in names.items() if level >= number), "debug")
