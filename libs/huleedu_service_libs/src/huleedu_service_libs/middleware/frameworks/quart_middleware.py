"""Server spans of a Quart application."""

import time
from collections.abc import Collection
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart, g, request

from opentelemetry import trace
from opentelemetry.trace import Tracer

from huleedu_service_libs._ids import acceptable_correlation_id
from huleedu_service_libs.logging_utils import bind_log_context
from huleedu_service_libs.middleware.exchange import SCOPE_KEY
from huleedu_service_libs.middleware.frameworks.quart_edge import edge_of, exchange_of
from huleedu_service_libs.middleware.http_tracing import UNTRACED, ServerSpans
from huleedu_service_libs.observability.current import CORRELATION_ID

__all__ = ["TracingMiddleware", "setup_tracing_middleware"]


def setup_tracing_middleware(app: Quart, tracer: Tracer, *, untraced: Collection[str] = UNTRACED) -> None:
    """Give each request and WebSocket of ``app`` a server span, and its ids to the answer.

    The span ends however the request ends. Its name is the method and the route's template. 5xx mark it as failed,
    4xx do not. The answer carries ``traceparent``, ``X-Trace-ID`` and ``X-Span-ID``; views find ``g.correlation_id``
    and ``g.current_span``. A second call changes the tracer.

    Args:
        app: May have started serving.
        tracer: Such as `init_tracing` returns.
        untraced: Paths without spans, each with everything below it: by default health and metrics, which are asked
            every few seconds. They are counted like any other, and their answers carry ids.

    Raises:
        ValueError: A path of ``untraced`` does not begin with a slash.
    """
    edge = edge_of(app)
    edge.spans = ServerSpans(tracer, untraced)
    if edge.show is None:
        edge.show = _Shown(app, TracingMiddleware(tracer))


class _Shown:
    """Fills ``g`` before all hooks, and once more after those of the service, where it has any: they may name the request."""

    def __init__(self, app: Quart, middleware: "TracingMiddleware") -> None:
        self._hooks = app.before_request_funcs[None]
        self._middleware = middleware

    def __call__(self, req: Any) -> None:
        hooks = self._hooks  # Quart is at its beginning: the end may change
        if len(hooks) > 1 and hooks[-1] != self._again:
            if self._again in hooks:
                hooks.remove(self._again)
            hooks.append(self._again)
        self._middleware.before_request(req)

    async def _again(self) -> None:
        self._middleware.before_request(request._get_current_object())  # type: ignore[attr-defined]  # noqa: SLF001  # as in quart_edge


class TracingMiddleware:
    """Shows the ids of a request where views look for them. The span itself is the layer's around the application.

    Args:
        tracer: For `tracer`.

    Attributes:
        tracer: As given.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer

    def before_request(self, req: Any) -> None:
        """Fill ``g`` from what the layer knows of the request.

        A ``g.request_id`` that a hook of the service has set wins over a correlation id that was made here.
        """
        exchange = exchange_of(req)
        if exchange is None:
            return
        shown = g._get_current_object()  # noqa: SLF001  # the proxy looks it up at each access
        span = trace.get_current_span()
        own = None if exchange.id_came_in else acceptable_correlation_id(shown.get("request_id"))
        if own is not None and own != exchange.correlation_id:
            exchange.adopt(own)
            req.scope[SCOPE_KEY] = own
            CORRELATION_ID.set(own)
            bind_log_context(correlation_id=own)
            span.set_attribute("correlation_id", own)
        shown.correlation_id = exchange.correlation_id
        shown.current_span = span
        shown.context_token = shown.span_token = None  # nothing to detach: the layer does that
        shown.trace_start_time = time.time() - exchange.seconds

    def after_request(self, resp: Any) -> Any:
        """The response as it is: the layer puts the ids into every answer, also where no hook runs."""
        return resp
