"""Applications with metrics or spans, set up by the function of their framework; the span that came; the ways of a client."""

import asyncio
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer
from quart import Quart

from huleedu_service_libs import metrics_middleware
from huleedu_service_libs.middleware.frameworks import fastapi_metrics_middleware, fastapi_middleware, quart_middleware


def set_up_metrics(app: Any, service: str = "svc") -> Any:
    """The application, with HTTP metrics."""
    module: Any = metrics_middleware if isinstance(app, Quart) else fastapi_metrics_middleware
    module.setup_standard_service_metrics_middleware(app, service)
    return app


def set_up_tracing(app: Any, tracer: Tracer, **settings: Any) -> Any:
    """The application, with server spans."""
    module: Any = quart_middleware if isinstance(app, Quart) else fastapi_middleware
    module.setup_tracing_middleware(app, tracer, **settings)
    return app


def only_span(exporter: InMemorySpanExporter) -> ReadableSpan:
    """The one span that has ended."""
    (span,) = exporter.get_finished_spans()
    return span


async def never() -> Any:
    """A client that sends nothing."""
    await asyncio.Event().wait()


async def empty() -> Any:
    """A request without a body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(_message: Any) -> None:
    """A client that does not look at the answer."""
