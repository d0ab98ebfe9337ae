"""Both frameworks, and spans in memory."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY, CollectorRegistry

from huleedu_service_libs._log_pipeline.logger import set_threshold, threshold
from huleedu_service_libs.logging_utils import configure_service_logging

from .applications import Make, make_fastapi, make_quart
from .numbers import forget


@pytest.fixture(name="make", params=[make_fastapi, make_quart], ids=["fastapi", "quart"])
def _make(request: pytest.FixtureRequest) -> Make:
    """Makes the application, once for each framework."""
    made: Make = request.param
    return made


@pytest.fixture(name="exporter")
def _exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(name="tracer")
def _tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider: Any = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer: Tracer = provider.get_tracer("test")
    return tracer


@pytest.fixture(autouse=True)
def _logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Logging as services configure it."""
    for name in ("SERVICE_NAME", "ENVIRONMENT"):  # what the configuration sets goes with the test
        monkeypatch.setenv(name, "svc")
    handlers, level, earlier = list(logging.root.handlers), logging.root.level, threshold()
    configure_service_logging("svc", "production")
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    set_threshold(earlier)


@pytest.fixture(autouse=True, name="registry")
def _registry() -> CollectorRegistry:
    """The default registry with nothing of these tests in it."""
    forget()
    return REGISTRY
