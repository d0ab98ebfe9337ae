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

from huleedu_service_libs._ids import acceptable_correlation_id, random_id
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER, operation_scope
from huleedu_service_libs.logging_utils import log_context
from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.exchange import (
    EXCHANGE_KEY,
    SCOPE_KEY,
    Application,
    Exchange,
    Receive,
    Scope,
    Send,
)
from huleedu_service_libs.observability import extract_trace_context
from huleedu_service_libs.observability.current import CORRELATION_ID

__all__ = ["CORRELATION_HEADER", "SCOPE_KEY", "RequestContextMiddleware"]

_HEADER_BYTES = CORRELATION_HEADER.lower().encode("latin-1")
_KINDS = frozenset({"http", "websocket"})
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
        outer: Exchange | None = scope.get(EXCHANGE_KEY)
        metrics, spans = self._edge.metrics, self._edge.spans
        if outer is not None:
            metrics = None if outer.measured else metrics
            spans = None if outer.traced else spans
            if metrics is None and spans is None:
                await self._app(scope, receive, send)
                return
        exchange = _exchange(scope, receive, send, outer)
        exchange.measured = metrics is not None or (outer is not None and outer.measured)
        exchange.traced = spans is not None or (outer is not None and outer.traced)
        context = _trace_context(exchange.headers)
        span = spans.start(scope, exchange, context) if spans is not None else None
        context = _with_span(span, context)
        _announce(scope, exchange, trace.get_current_span(context).get_span_context(), traced=span is not None)
        method = scope.get("method", "WEBSOCKET")
        if metrics is not None:
            metrics.begin(exchange)
        token = otel_context.attach(context)
        known = CORRELATION_ID.set(exchange.correlation_id)
        try:
            with (
                log_context(correlation_id=exchange.correlation_id),
                operation_scope(coordinates={"method": method, "path": scope.get("path", "")}),
            ):
                await self._run(scope, exchange)
        finally:
            self._finish(scope, exchange, span)
            CORRELATION_ID.reset(known)
            otel_context.detach(token)
            if metrics is not None:
                metrics.end(exchange, method)
            if outer is not None:
                _tell_outer(outer, exchange)

    async def _run(self, scope: Scope, exchange: Exchange) -> None:
        try:
            await self._app(scope, exchange.counts_body(), exchange.send)
        except BaseException as error:
            exchange.error = error
            if isinstance(error, Exception) and self._edge.on_error is not None:
                self._edge.on_error(scope, error)
            raise

    def _finish(self, scope: Scope, exchange: Exchange, span: Span | None) -> None:
        find = self._edge.route
        if exchange.route is None and find is not None and (exchange.measured or span is not None):
            exchange.route = find(scope, exchange)
        if span is not None and self._edge.spans is not None:
            self._edge.spans.end(span, scope, exchange)


def _exchange(scope: Scope, receive: Receive, send: Send, outer: Exchange | None) -> Exchange:
    exchange = Exchange(scope, receive, send)
    if outer is not None:
        exchange.correlation_id, exchange.id_came_in = outer.correlation_id, outer.id_came_in
    else:
        given = exchange.headers.get(_HEADER_BYTES)
        accepted = acceptable_correlation_id(given.decode("latin-1")) if given else None
        accepted = accepted or _queried_id(scope)
        exchange.id_came_in = accepted is not None
        exchange.correlation_id = accepted or random_id()
        scope[SCOPE_KEY] = exchange.correlation_id
    scope[EXCHANGE_KEY] = exchange
    return exchange


def _tell_outer(outer: Exchange, inner: Exchange) -> None:
    outer.failed = outer.failed or inner.failed
    outer.route = outer.route or inner.route


def _announce(scope: Scope, exchange: Exchange, span: SpanContext, *, traced: bool) -> None:
    """Answer with the ids, and show those of the span where FastAPI services look for them."""
    trace_id, span_id = f"{span.trace_id:032x}", f"{span.span_id:016x}"
    ids = [(_HEADER_BYTES, exchange.correlation_id.encode()), (b"x-trace-id", trace_id.encode())]
    if traced:
        ids.append((b"x-span-id", span_id.encode()))
        ids.append((b"traceparent", f"00-{trace_id}-{span_id}-{span.trace_flags:02x}".encode()))
        state: Any = scope.setdefault("state", {})
        state["trace_id"], state["span_id"] = trace_id, span_id
    if span.trace_flags & TraceFlags.SAMPLED:
        exchange.exemplar = {"trace_id": trace_id, "span_id": span_id}
    exchange.answer_with(ids)


def _queried_id(scope: Scope) -> str | None:
    query: bytes = scope.get("query_string") or b""
    if b"correlation_id=" not in query:
        return None
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


def _with_span(span: Span | None, context: otel_context.Context) -> otel_context.Context:
    """With the server span, if it has ids; else as it came in; else with ids that nobody records."""
    if span is not None and span.get_span_context().is_valid:
        return trace.set_span_in_context(span, context)
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    # As OpenTelemetry draws them: unique they must be, not secret.
    fresh = SpanContext(random.getrandbits(128) or 1, random.getrandbits(64) or 1, False, _NOT_SAMPLED)  # noqa: FBT003
    return trace.set_span_in_context(NonRecordingSpan(fresh), context)
