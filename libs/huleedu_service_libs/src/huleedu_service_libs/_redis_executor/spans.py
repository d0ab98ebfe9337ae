"""A client span for each command, by OpenTelemetry's stable conventions for databases. Needs the API alone.

Only inside a span that is recorded. Made when the reply is there, with both of its times, so that a command that
nobody records costs one look. Keys and values never leave.
"""

import time

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from huleedu_service_libs.observability.tracers import KeptTracer

__all__ = ["CommandSpans"]


class CommandSpans:
    """Makes the spans of one client.

    Args:
        host: The server's, if it has one.
        port: Its port.
        database: Its number.
        enabled: Whether to make any.
    """

    def __init__(self, host: str | None, port: int | None, database: int, *, enabled: bool) -> None:
        found = {"server.address": host, "server.port": port, "db.namespace": str(database)}
        self._server = {"db.system.name": "redis", **{name: value for name, value in found.items() if value}}
        self._enabled = enabled
        self._tracer = KeptTracer("huleedu_service_libs.redis")

    def begin(self) -> int:
        """Ns since the epoch; 0 when there is nothing to record."""
        if self._enabled and trace.get_current_span().is_recording():
            return time.time_ns()
        return 0

    def record(self, command: str, began: int, error: BaseException | None) -> None:
        """The span of a command that has ended."""
        attributes = {**self._server, "db.operation.name": command}
        if error is not None:
            attributes["error.type"] = type(error).__qualname__
        span = self._tracer.get().start_span(command, kind=SpanKind.CLIENT, attributes=attributes, start_time=began)
        if error is not None:
            span.set_status(Status(StatusCode.ERROR))  # without a text: it may name keys
        span.end()
