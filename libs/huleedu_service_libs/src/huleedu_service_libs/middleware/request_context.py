"""The one layer around an application: correlation id, W3C trace context, metrics and server span. Pure ASGI.

Wraps a Quart or FastAPI application alike, so that everything inside (log
lines, outbox rows, errors) shows the ids of the request, and every answer too,
also that of a failure. Not Starlette's
``BaseHTTPMiddleware``, which costs more and loses context variables. Knows no
framework and needs no OpenTelemetry SDK: without one the trace that came in is
passed on, or a new one begins here.
"""

import random
from typing import Any
from urllib.parse import parse_qsl

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

from huleedu_service_libs._asgi import Application, Receive, Scope, Send
from huleedu_service_libs._ids import acceptable_correlation_id, random_id
from huleedu_service_libs._scopes import restore
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER, enter_operation, leave_operation
from huleedu_service_libs.logging_utils import log_variable
from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.exchange import EXCHANGE_KEY, SCOPE_KEY, Exchange
from huleedu_service_libs.middleware.http_metrics import HttpMetrics
from huleedu_service_libs.middleware.http_tracing import ServerSpans
from huleedu_service_libs.observability import extract_trace_context
from huleedu_service_libs.observability.current import CORRELATION_ID

__all__ = ["CORRELATION_HEADER", "SCOPE_KEY", "RequestContextMiddleware"]

_HEADER_BYTES = CORRELATION_HEADER.lower().encode("latin-1")
_KINDS = frozenset({"http", "websocket"})
_LOGGED = log_variable("correlation_id")
_SAMPLED = int(TraceFlags.SAMPLED)
_FLAGS = tuple(f"{flags:02x}" for flags in range(256))  # formatting a number costs as much as all of the rest
_NOTHING = otel_context.Context()
_NOT_SAMPLED = TraceFlags(TraceFlags.DEFAULT)


class RequestContextMiddleware:
    """Runs each request in its correlation and trace context, answers with both ids, and tells what became of it.

    The correlation id is the header ``X-Correlation-ID`` when it is acceptable (letters, digits,
    dots, dashes, underscores, 128 at most), else the query's ``correlation_id``, else a new UUID. It is bound to the log context, stands in
    ``scope["huleedu.correlation_id"]`` and in the response, beside ``X-Trace-ID``, unless the application
    has put others there. With spans ``traceparent`` and ``X-Span-ID`` stand there too. Around an application that is
    wrapped already it does only what the outer one does not.

    Args:
        app: The application to wrap.
        edge: Metrics and spans; without it there are ids only.
    """

    def __init__(self, app: Application, edge: Edge | None = None) -> None:
        self._app = app
        self._edge = edge or Edge()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in _KINDS:
            await self._app(scope, receive, send)
            return
        edge, outer = self._edge, scope.get(EXCHANGE_KEY)
        metrics, spans = (edge.metrics, edge.spans) if outer is None else _undone(edge, outer)
        if outer is not None and metrics is None and spans is None:
            await self._app(scope, receive, send)
            return
        exchange = _exchange(scope, receive, send, outer)
        context = _trace_context(exchange.headers)
        span = None if spans is None else _span(spans, scope, exchange, context)
        context, ids = _with_span(span, context)
        _announce(scope, exchange, ids, traced=span is not None)
        method = scope.get("method", "WEBSOCKET")
        if metrics is not None:
            exchange.measured = True
            exchange.expect_body()
            metrics.begin(exchange)
        around = _enter(context, exchange.correlation_id, method, scope.get("path", ""))
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except BaseException as error:
            exchange.ended_with(error)
            if edge.on_error is not None and isinstance(exchange.fault, Exception):
                edge.on_error(scope, exchange.fault)
            raise
        finally:
            if method == "HEAD":
                exchange.sent = 0  # applications answer as to GET, and the server keeps the body back
            try:
                self._conclude(scope, exchange, span)
            finally:
                _leave(around)
                if metrics is not None:
                    metrics.end(exchange, method)
                exchange.release()
                if outer is not None:
                    _tell_outer(outer, exchange)

    def _conclude(self, scope: Scope, exchange: Exchange, span: Span | None) -> None:
        edge = self._edge
        if exchange.route is None and edge.route is not None and (exchange.measured or span is not None):
            exchange.route = edge.route(scope, exchange)
        if span is not None and edge.spans is not None:
            edge.spans.end(span, scope, exchange)


def _undone(edge: Edge, outer: Exchange) -> tuple[HttpMetrics | None, ServerSpans | None]:
    """What the layer around an application further out does not do already."""
    return None if outer.measured else edge.metrics, None if outer.traced else edge.spans


def _span(spans: ServerSpans, scope: Scope, exchange: Exchange, parent: otel_context.Context) -> Span | None:
    exchange.traced = True
    return spans.start(scope, exchange, parent) if spans.wants(scope) else None


def _enter(context: otel_context.Context, correlation_id: str, method: str, path: str) -> tuple[Any, ...]:
    """Make trace, correlation id and place current. Not as context managers: every request comes through here."""
    return (
        otel_context.attach(context),
        CORRELATION_ID.set(correlation_id),
        _LOGGED.set(correlation_id),
        enter_operation({"method": method, "path": path}),
    )


def _leave(around: tuple[Any, ...]) -> None:
    context, known, logged, place = around
    leave_operation(place)
    restore(_LOGGED, logged)
    restore(CORRELATION_ID, known)
    otel_context.detach(context)


def _exchange(scope: Scope, receive: Receive, send: Send, outer: Exchange | None) -> Exchange:
    exchange = Exchange(scope, receive, send)
    scope[EXCHANGE_KEY] = exchange
    if outer is not None:
        exchange.correlation_id, exchange.id_came_in = outer.correlation_id, outer.id_came_in
        exchange.measured, exchange.traced = outer.measured, outer.traced
        return exchange
    given = exchange.headers.get(_HEADER_BYTES)
    accepted = acceptable_correlation_id(given.decode("latin-1")) if given else None
    if accepted is None and b"correlation_id=" in scope.get("query_string", b""):
        accepted = _queried_id(scope["query_string"])
    exchange.id_came_in = accepted is not None
    exchange.correlation_id = scope[SCOPE_KEY] = accepted or random_id()
    return exchange


def _tell_outer(outer: Exchange, inner: Exchange) -> None:
    outer.failed = outer.failed or inner.failed
    outer.route = outer.route or inner.route


def _announce(scope: Scope, exchange: Exchange, span: SpanContext, *, traced: bool) -> None:
    """Answer with the ids, and show those of the span where FastAPI services look for them."""
    trace_id, span_id, flags = span.trace_id.to_bytes(16).hex(), span.span_id.to_bytes(8).hex(), span.trace_flags
    ids = [(_HEADER_BYTES, exchange.correlation_id.encode()), (b"x-trace-id", trace_id.encode())]
    if traced:
        ids.append((b"x-span-id", span_id.encode()))
        ids.append((b"traceparent", f"00-{trace_id}-{span_id}-{_FLAGS[flags]}".encode()))
        state: Any = scope.setdefault("state", {})
        state["trace_id"], state["span_id"] = trace_id, span_id
    if flags & _SAMPLED:
        exchange.exemplar = {"trace_id": trace_id, "span_id": span_id}
    exchange.answer_with(ids)


def _queried_id(query: bytes) -> str | None:
    fields = parse_qsl(query.decode("latin-1"))
    return next(
        (value for name, value in fields if name == "correlation_id" and acceptable_correlation_id(value)), None
    )


def _trace_context(headers: dict[bytes, bytes]) -> otel_context.Context:
    """The context that came in, without a span when none did.

    Whoever opened a span for the request further out has read the headers already: that span stays current.
    """
    around = otel_context.get_current()
    if around and trace.get_current_span(around).is_recording():
        return around
    parent = headers.get(b"traceparent")
    if parent is None:
        return _NOTHING
    state = headers.get(b"tracestate", b"")
    return extract_trace_context({"traceparent": parent.decode("latin-1"), "tracestate": state.decode("latin-1")})


def _with_span(span: Span | None, context: otel_context.Context) -> tuple[otel_context.Context, SpanContext]:
    """With the server span, if it has ids; else as it came in; else with ids that nobody records. And those ids."""
    if span is not None:
        ids = span.get_span_context()
        if ids.is_valid:
            return trace.set_span_in_context(span, context), ids
    ids = trace.get_current_span(context).get_span_context()
    if ids.is_valid:
        return context, ids
    # As OpenTelemetry draws them: unique they must be, not secret.
    ids = SpanContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1, False, _NOT_SAMPLED)  # noqa: FBT003
    return trace.set_span_in_context(NonRecordingSpan(ids), context), ids
