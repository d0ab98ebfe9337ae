"""What surrounds a call without being handed over: structlog's context variables and the current trace.

For the lines only. What does not change from line to line is kept.
"""

from contextvars import ContextVar, copy_context
from typing import Any, NamedTuple

from opentelemetry import context as otel_context
from opentelemetry import trace
from structlog.contextvars import STRUCTLOG_KEY_PREFIX

from huleedu_service_libs._log_pipeline.rendering import members

__all__ = ["TraceIds", "context_fields"]

_names: dict[ContextVar[Any], str] = {}


def context_fields() -> dict[str, Any]:
    """What ``structlog.contextvars`` would merge."""
    fields: dict[str, Any] = {}
    for variable, value in copy_context().items():
        name = _names.get(variable)
        if name is None:
            name = _names[variable] = _field_of(variable.name)
        if name and value is not Ellipsis:  # structlog's sign for an unbound one
            fields[name] = value
    return fields


def _field_of(variable: str) -> str:
    return variable[len(STRUCTLOG_KEY_PREFIX) :] if variable.startswith(STRUCTLOG_KEY_PREFIX) else ""


class _Seen(NamedTuple):
    context: object
    ids: dict[str, str]
    encoded: bytes


class TraceIds:
    """``trace_id`` and ``span_id`` of the current span context, recorded here or passed on."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = _Seen(None, {}, b"")

    def __call__(self) -> dict[str, str]:
        """Both ids in hexadecimal; empty outside a trace."""
        return self._current().ids

    def encoded(self) -> bytes:
        """The same as `members`."""
        seen = self._seen  # as in `_current`, without a call: every line asks
        return seen.encoded if otel_context.get_current() is seen.context else self._current().encoded

    def _current(self) -> _Seen:
        current = otel_context.get_current()  # never changed, only replaced
        seen = self._seen  # one read: another thread may replace it
        if current is seen.context:  # lines of one span follow each other
            return seen
        ids = _ids(trace.get_current_span(current).get_span_context())
        seen = self._seen = _Seen(current, ids, members(ids))
        return seen


def _ids(context: trace.SpanContext) -> dict[str, str]:
    if not context.is_valid:
        return {}
    return {"trace_id": format(context.trace_id, "032x"), "span_id": format(context.span_id, "016x")}
