"""A client span for each statement, by OpenTelemetry's stable conventions for databases. Needs the API alone.

Only inside a span that is recorded: a statement of an unsampled request costs one look. Made when the statement has
ended, with both of its times, so that nothing has to be carried between two events.
"""

from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from huleedu_service_libs.database.engines import Server
from huleedu_service_libs.database.sql import Shape, summary
from huleedu_service_libs.database.sql_values import normalise
from huleedu_service_libs.observability.tracers import KeptTracer
from huleedu_service_libs.outages import sqlstate_of

__all__ = ["StatementSpans"]

_UNKNOWN = "unknown"


class StatementSpans:
    """Makes the spans of one engine.

    Args:
        server: Where its database is.
    """

    def __init__(self, server: Server) -> None:
        found = {
            "db.system.name": server.system,
            "db.namespace": server.database,
            "server.address": server.address,
            "server.port": server.port,
        }
        self._server = {name: value for name, value in found.items() if value}

        self._tracer = KeptTracer("huleedu_service_libs.database")

    @staticmethod
    def wanted() -> bool:
        """Whether the current span is recorded."""
        return trace.get_current_span().is_recording()

    def record(self, statement: str, shape: Shape, started: int, ended: int, error: BaseException | None) -> None:
        """A span from ``started`` to ``ended``, both in ns since the epoch."""
        name = summary(shape)
        attributes: dict[str, Any] = {
            **self._server,
            "db.operation.name": shape.operation.upper(),
            "db.query.summary": name,
            "db.query.text": normalise(statement),
        }
        if shape.table != _UNKNOWN:
            attributes["db.collection.name"] = shape.table
        if error is not None:
            attributes |= _of_error(error)
        span = self._tracer.get().start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=started)
        if error is not None:
            # Without a text: drivers put values into theirs, and whoever raises it on tells the error itself.
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)


def _of_error(error: BaseException) -> dict[str, str]:
    state = sqlstate_of(error)
    return (
        {"error.type": type(error).__qualname__}
        if state is None
        else {"error.type": state, "db.response.status_code": state}
    )
