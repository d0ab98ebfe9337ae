"""Spans go to a collector where one is named, and nowhere else: the demo needs none."""

import os

from opentelemetry.trace import Tracer

from huleedu_service_libs.observability import get_tracer, init_tracing

__all__ = ["start_tracing"]


def start_tracing(service_name: str) -> Tracer:
    """The service's tracer; it records when ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set."""
    return init_tracing(service_name) if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") else get_tracer(service_name)
