"""Puts a line together: the event with everything that stands on every line.

The last and only processor of structlog in a configured process, so that loggers of
`create_service_logger`, of ``structlog.get_logger`` and of the standard library look
alike. One function rather than a chain of ten: each processor of a chain costs more
than what it adds. What `splicing` can draw it draws; what is left is put together here.
"""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

from huleedu_service_libs._clock import Now
from huleedu_service_libs._log_pipeline.ambient import TraceIds, context_fields
from huleedu_service_libs._log_pipeline.cleaning import clean_event, clean_into, clean_text
from huleedu_service_libs._log_pipeline.places import NOWHERE, Place, Places
from huleedu_service_libs._log_pipeline.rendering import Renderer, as_json, traceback_text
from huleedu_service_libs._log_pipeline.splicing import OURS, SPECIAL, Splicer

__all__ = ["Line"]

_utc_now: Now = partial(datetime.now, UTC)  # a function around it costs a third more


class Line:
    """A processor of structlog that makes a line of an event.

    Args:
        constant: What is the same on every line; the event may say otherwise.
        render: Draws it.
        now: The time of day.
    """

    def __init__(self, constant: Mapping[str, str], render: Renderer, now: Now = _utc_now) -> None:
        self._constant: dict[str, Any] = {}
        clean_into(self._constant, dict(constant))
        self._render = render
        # The methods themselves: calling an object costs more than calling its method.
        self._splice = Splicer(constant).__call__ if render is as_json else None
        self._now = now
        self._trace_ids = TraceIds()
        self._place = Places().__call__

    def __call__(self, _logger: WrappedLogger, level: str, event_dict: EventDict) -> str | bytes:
        """The line of an event that a logger of structlog's logged just now."""
        event = event_dict.pop("event", "")
        return self.draw(level, event, {}, dict(event_dict))

    def draw(self, level: str, event: Any, context: dict[str, Any], fields: dict[str, Any]) -> str | bytes:
        """The line of an event that was logged just now, by a logger with that context."""
        when, place = self._now(), self._place()
        merged = context_fields()
        merged.update(context)
        merged.update(fields)
        if self._splice is not None:
            line = self._splice(when, level, event, self._trace_ids.encoded(), merged, place.ending)
            if line is not None:
                return line
        return self._drawn(level, event, merged, when, place)

    def draw_record(self, level: str, event: str, fields: dict[str, Any], when: datetime, place: Place) -> str | bytes:
        """The line of an event that was logged then and there."""
        return self._drawn(level, event, {**context_fields(), **fields}, when, place)

    def draw_own(self, level: str, event: str, **fields: Any) -> str | bytes:
        """A line about logging itself."""
        return self._drawn(level, event, {**context_fields(), **fields}, self._now(), NOWHERE)

    def _drawn(self, level: str, event: Any, fields: dict[str, Any], when: datetime, place: Place) -> str | bytes:
        exception = ""
        if not SPECIAL.isdisjoint(fields):
            fields, exception = _without_special(fields)
        if not self._constant.keys().isdisjoint(fields):
            fields = {self._own_name(name, value): value for name, value in fields.items()}
        line: dict[str, Any] = {
            "timestamp": when,
            "level": level,
            "event": clean_event(event),
            **self._constant,
            **self._trace_ids(),
        }
        clean_into(line, fields)
        line["filename"], line["func_name"], line["lineno"], _ = place
        if exception:
            line["exception"] = exception
        return self._render(line)

    def _own_name(self, name: str, value: Any) -> str:
        """Whose line it is says the process alone; a field that says otherwise is about something else."""
        return f"{name}_" if self._constant.get(name, value) != value else name


def _without_special(fields: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Names of ours out of the way, ``exc_info`` as a traceback, ``stack_info`` as ``stack``."""
    stack, found = fields.get("stack_info"), _exc_info(fields.get("exc_info"))
    ours = OURS | ({"stack"} if stack else set()) | ({"exception"} if found else set())
    plain = {f"{name}_" if name in ours else name: value for name, value in fields.items() if name not in _ASKED}
    if stack:
        plain["stack"] = clean_text(stack) if isinstance(stack, str) else _stack()
    return plain, traceback_text(found) if found else ""


_ASKED = ("exc_info", "stack_info")
_EXC_INFO = 3


def _exc_info(asked: Any) -> ExcInfo | None:
    error = asked[1] if isinstance(asked, tuple) and len(asked) == _EXC_INFO else asked
    if isinstance(error, BaseException):
        return type(error), error, error.__traceback__
    return _current() if asked and not isinstance(asked, tuple) else None


def _current() -> ExcInfo | None:
    error = sys.exception()
    return (type(error), error, error.__traceback__) if error else None


def _stack() -> str:
    shown = structlog.processors.StackInfoRenderer(additional_ignores=["huleedu_service_libs"])
    return clean_text(str(shown(None, "", {"stack_info": True})["stack"]))
