"""Server spans of a FastAPI application."""

from typing import Any

from opentelemetry.trace import Tracer

from huleedu_service_libs.middleware.frameworks.fastapi_edge import edge_of
from huleedu_service_libs.middleware.http_tracing import ServerSpans

__all__ = ["setup_tracing_middleware"]


def setup_tracing_middleware(app: Any, tracer: Tracer) -> None:
    """Give each request and WebSocket of ``app`` a server span, and its ids to the answer.

    The span ends however the request ends. Its name is the method and the route's template. 5xx mark it as failed,
    4xx do not. The answer carries ``traceparent``, ``X-Trace-ID`` and ``X-Span-ID``; views find
    ``request.state.trace_id`` and ``request.state.span_id``. A second call changes the tracer. Spans that newer FastAPI
    makes by itself are switched off for ``app``: there would be two of each request.

    Args:
        app: FastAPI or Starlette; may have started serving.
        tracer: Such as `init_tracing` returns.
    """
    edge_of(app).spans = ServerSpans(tracer)
    native = getattr(app, "_telemetry", None)
    if isinstance(native, dict):
        native["tracing"] = False
