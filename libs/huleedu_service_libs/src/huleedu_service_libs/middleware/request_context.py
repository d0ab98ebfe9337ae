"""Correlation id and W3C trace context of an HTTP or WebSocket request. Pure ASGI.

Wraps a Quart or FastAPI application alike, so that everything inside (log
lines, outbox rows, errors) shows the ids of the request, and every answer too,
also that of a failure. Not Starlette's
``BaseHTTPMiddleware``, which costs more and loses context variables. Knows no
framework and needs no OpenTelemetry SDK: without one the trace that came in is
passed on, or a new one begins here.
"""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl
from uuid import uuid4

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from huleedu_service_libs._ids import acceptable_correlation_id
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER, operation_scope
from huleedu_service_libs.logging_utils import log_context
from huleedu_service_libs.observability import extract_trace_context

__all__ = ["CORRELATION_HEADER", "RequestContextMiddleware"]

SCOPE_KEY = "huleedu.correlation_id"

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADER_BYTES = CORRELATION_HEADER.lower().encode("latin-1")


class RequestContextMiddleware:
    """Runs each request in its correlation and trace context, and answers with both ids.

    The correlation id is the header ``X-Correlation-ID`` when it is acceptable (letters, digits,
    dots, dashes, underscores, 128 at most), else the query's ``correlation_id``, else a new UUID. It is bound to the log context, stands in
    ``scope["huleedu.correlation_id"]`` and in the response, beside ``X-Trace-ID``, unless the application
    has put others there. Around an application that is wrapped already it does nothing.

    Args:
        app: The application to wrap.
    """

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in {"http", "websocket"} or SCOPE_KEY in scope:
            await self._app(scope, receive, send)
            return
        headers = _text_headers(scope)
        correlation_id = (
            acceptable_correlation_id(headers.get(CORRELATION_HEADER.lower())) or _queried_id(scope) or str(uuid4())
        )
        scope[SCOPE_KEY] = correlation_id
        context = _trace_context(headers)
        trace_id = format(trace.get_current_span(context).get_span_context().trace_id, "032x")
        extra = [(_HEADER_BYTES, correlation_id.encode()), (b"x-trace-id", trace_id.encode())]

        async def send_with_ids(message: Message) -> None:
            if message["type"] in {"http.response.start", "websocket.accept"}:
                own = list(message.get("headers", []))
                present = {bytes(name).lower() for name, _ in own}
                message["headers"] = [*own, *(pair for pair in extra if pair[0] not in present)]
            await send(message)

        token = otel_context.attach(context)
        coordinates = {"method": scope.get("method", "WEBSOCKET"), "path": scope.get("path", "")}
        try:
            with log_context(correlation_id=correlation_id), operation_scope(coordinates=coordinates):
                await self._app(scope, receive, send_with_ids)
        finally:
            otel_context.detach(token)


def _text_headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", [])}


def _queried_id(scope: Scope) -> str | None:
    query: bytes = scope.get("query_string") or b""
    if b"correlation_id=" not in query:
        return None
    fields = parse_qsl(query.decode("latin-1"))
    return next(
        (value for name, value in fields if name == "correlation_id" and acceptable_correlation_id(value)), None
    )


def _trace_context(headers: dict[str, str]) -> otel_context.Context:
    """The context that came in, or a new trace that nobody records but that ids can be taken from.

    Whoever opened a span for the request further out has read the headers already: that span stays current.
    """
    if trace.get_current_span().is_recording():
        return otel_context.get_current()
    context = extract_trace_context(headers)
    if trace.get_current_span(context).get_span_context().is_valid:
        return context
    fresh = SpanContext(
        trace_id=secrets.randbits(128) or 1,
        span_id=secrets.randbits(64) or 1,
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.DEFAULT),
    )
    return trace.set_span_in_context(NonRecordingSpan(fresh), context)
