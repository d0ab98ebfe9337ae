"""Server spans of a FastAPI application."""

from collections.abc import Collection
from typing import Any

from opentelemetry.trace import Tracer

from huleedu_service_libs.middleware.frameworks.fastapi_edge import edge_of
from huleedu_service_libs.middleware.http_tracing import UNTRACED, ServerSpans

__all__ = ["setup_tracing_middleware"]


def setup_tracing_middleware(app: Any, tracer: Tracer, *, untraced: Collection[str] = UNTRACED) -> None:
    """Give each request and WebSocket of ``app`` a server span, and its ids to the answer.

    The span ends however the request ends. Its name is the method and the route's template. 5xx mark it as failed,
    4xx do not. The answer carries ``traceparent``, ``X-Trace-ID`` and ``X-Span-ID``; views find
    ``request.state.trace_id`` and ``request.state.span_id``. A second call changes the tracer. Spans that newer FastAPI
    makes by itself are switched off for ``app``: there would be two of each request.

    Args:
        app: FastAPI or Starlette; may have started serving.
        tracer: Such as `init_tracing` returns.
        untraced: Paths without spans, each with everything below it: by default health and metrics, which are asked
            every few seconds. They are counted like any other, and their answers carry ids.

    Raises:
        ValueError: A path of ``untraced`` does not begin with a slash.
    """
    edge_of(app).spans = ServerSpans(tracer, untraced)
    native = getattr(app, "_telemetry", None)
    if isinstance(native, dict):
        native["tracing"] = False
