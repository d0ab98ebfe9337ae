"""What `provider` builds of OpenTelemetry's SDK. Loaded only where the SDK is installed."""

import atexit
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from huleedu_service_libs import _metrics
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.observability.settings import TracingSettings

__all__ = ["Recording"]

_EXPORTER_LOGGER = "opentelemetry.exporter.otlp.proto.grpc.exporter"
_TELL_EVERY_SECONDS = 60.0

_EXPORTED = _metrics.counter("trace_spans_exported_total", "Spans by what became of their export", ("outcome",))


class Recording:
    """A tracer provider whose export can be stopped and started again.

    Args:
        service_name: Of the resource.

    Attributes:
        provider: For ``set_tracer_provider``.
    """

    def __init__(self, service_name: str) -> None:
        self._service_name = service_name
        self._switch = _Switch()
        self._flush_seconds = 0.0
        self._stop_now = threading.Event()
        self._stopper: threading.Thread | None = None
        self.provider: TracerProvider | None = None

    def start(self, settings: TracingSettings) -> None:
        """Export from now on; does nothing while it exports."""
        if self._switch.inner is not None:
            return
        if self.provider is None:
            # At exit the provider would wait as long as the exporter tries: half a minute without a collector.
            self.provider = TracerProvider(
                sampler=_sampler(settings), resource=_resource(self._service_name), shutdown_on_exit=False
            )
            self.provider.add_span_processor(self._switch)
            atexit.register(self.stop)
        self._flush_seconds = settings.flush_seconds
        inner = BatchSpanProcessor(
            _Counted(_exporter(settings)),
            max_queue_size=settings.queue_size,
            max_export_batch_size=settings.batch_size,
        )
        self._switch.inner = inner
        self._stop_now = threading.Event()
        # Ready from the beginning: newer Pythons start no thread at exit.
        self._stopper = threading.Thread(
            target=_shutdown_when, args=(self._stop_now, inner), name="trace-shutdown", daemon=True
        )
        self._stopper.start()

    def stop(self) -> None:
        """Send what waits, in time, and stop; what takes longer is left behind."""
        self._switch.inner = None
        self._stop_now.set()
        if self._stopper is not None:
            self._stopper.join(self._flush_seconds)


def _shutdown_when(told: threading.Event, processor: BatchSpanProcessor) -> None:
    told.wait()
    processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK's


class _Switch(SpanProcessor):
    """Hands spans to whatever is there: a provider cannot be replaced, nor a processor of it removed."""

    def __init__(self) -> None:
        self.inner: BatchSpanProcessor | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.inner is not None:
            self.inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if self.inner is not None:
            self.inner.on_end(span)

    def shutdown(self) -> None:
        if self.inner is not None:
            self.inner.shutdown()  # type: ignore[no-untyped-call]  # the SDK's

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True if self.inner is None else self.inner.force_flush(timeout_millis)


class _Counted(SpanExporter):
    """Counts what becomes of spans."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        outcome = "sent" if result is SpanExportResult.SUCCESS else "failed"
        _EXPORTED.labels(outcome).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _Seldom(logging.Filter):
    """Lets one line a minute through: the exporter tells of a collector that is away at every attempt."""

    def __init__(self) -> None:
        super().__init__()
        self._next = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002  # all lines of that logger are alike
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _TELL_EVERY_SECONDS
        return True


def _exporter(settings: TracingSettings) -> SpanExporter:
    with requires_extra("tracing", module=__name__):
        from grpc import ssl_channel_credentials  # noqa: PLC0415  # a test's provider needs no gRPC
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    logger = logging.getLogger(_EXPORTER_LOGGER)  # noqa: TID251  # OpenTelemetry's own
    if not any(isinstance(each, _Seldom) for each in logger.filters):
        logger.addFilter(_Seldom())
    options: dict[str, Any] = {"timeout": settings.export_timeout_seconds}
    if settings.endpoint is not None:
        options["endpoint"] = settings.endpoint
    if settings.insecure is not None:
        options["insecure"] = settings.insecure
    if settings.headers is not None:
        options["headers"] = {name.lower(): value for name, value in settings.headers.items()}  # as gRPC wants them
    if settings.certificate_file is not None:
        with open(settings.certificate_file, "rb") as file:  # noqa: PTH123  # pathlib reads it no better
            options["credentials"] = ssl_channel_credentials(file.read())
    exporter: SpanExporter = OTLPSpanExporter(**options)
    return exporter


def _sampler(settings: TracingSettings) -> Sampler | None:
    return None if settings.sample_ratio is None else ParentBased(TraceIdRatioBased(settings.sample_ratio))


def _resource(service_name: str) -> Resource:
    return Resource.create(
        {
            "service.name": service_name,
            "service.version": os.environ.get("SERVICE_VERSION", "1.0.0"),
            "deployment.environment": os.environ.get("ENVIRONMENT", "development"),
            "deployment.environment.name": os.environ.get("ENVIRONMENT", "development"),
            "service.namespace": "huleedu",
        }
    )
