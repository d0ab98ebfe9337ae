"""What `provider` builds of OpenTelemetry's SDK. Loaded only where the SDK is installed."""

import atexit
import os
import threading
import warnings
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased

from huleedu_service_libs import _metrics
from huleedu_service_libs.observability._otlp import exporter_of
from huleedu_service_libs.observability.settings import TracingSettings

__all__ = ["Recording"]

_EXPORTED = _metrics.counter("trace_spans_exported_total", "Spans by what became of their export", ("outcome",))


class Recording:
    """A tracer provider whose export can be stopped and started again.

    Args:
        service_name: Of the resource.

    Attributes:
        provider: For ``set_tracer_provider``; made by the first `start`.
    """

    def __init__(self, service_name: str) -> None:
        self._service_name = service_name
        self._switch = _Switch()
        self._settings = TracingSettings()
        self._stop_now = threading.Event()
        self._stopper: threading.Thread | None = None
        self.provider: TracerProvider | None = None

    def start(self, settings: TracingSettings) -> None:
        """Export from now on; does nothing while it exports.

        Raises:
            FileNotFoundError: There is no certificate file of that name.
            ValueError: It holds no certificate.
        """
        if self._switch.inner is not None:
            return
        self._settings = settings
        self._export()
        if self.provider is None:
            # At exit the provider would wait as long as the exporter tries: half a minute without a collector.
            self.provider = TracerProvider(
                sampler=_sampler(settings), resource=_resource(self._service_name), shutdown_on_exit=False
            )
            self.provider.add_span_processor(self._switch)
            atexit.register(self.stop)
            os.register_at_fork(after_in_child=self._in_child)

    def _export(self) -> None:
        settings = self._settings
        counted = _Counted(exporter_of(settings))
        inner = BatchSpanProcessor(
            counted, max_queue_size=settings.queue_size, max_export_batch_size=settings.batch_size
        )
        self._switch.counted, self._switch.inner = counted, inner
        self._stop_now = threading.Event()
        # Ready from the beginning: newer Pythons start no thread at exit.
        self._stopper = threading.Thread(
            target=_shutdown_when, args=(self._stop_now, inner), name="trace-shutdown", daemon=True
        )
        self._stopper.start()

    def _in_child(self) -> None:
        """Threads and connections do not survive a fork: the child makes its own, once it has a span to send."""
        if self._switch.inner is not None:
            self._switch.inner = _Awaited(self._export_in_child)

    def _export_in_child(self) -> None:
        try:
            self._export()
        except Exception as error:  # noqa: BLE001  # such as a certificate that is gone: no reason for whatever ends a span to fail
            self._switch.inner = None
            warnings.warn(f"spans of process {os.getpid()} are not exported: {error}", RuntimeWarning, stacklevel=2)

    def stop(self) -> None:
        """Send what waits, in time, and stop; what takes longer is left behind."""
        self._switch.inner = None
        self._stop_now.set()
        if self._stopper is not None:
            self._stopper.join(self._settings.flush_timeout_s)


def _shutdown_when(told: threading.Event, processor: BatchSpanProcessor) -> None:
    told.wait()  # no limit: a daemon thread, as long as the process
    processor.shutdown()  # type: ignore[no-untyped-call]  # the SDK's


class _Awaited(SpanProcessor):
    """Stands for the processor of a forked process until the first span ends there; whoever forks often pays nothing."""

    def __init__(self, make: Callable[[], None]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made = False

    def replace(self) -> None:
        """Make the real one, once."""
        with self._lock:
            if not self._made:
                self._made = True
                self._make()


class _Switch(SpanProcessor):
    """Hands spans to whatever is there: a provider cannot be replaced, nor a processor of it removed."""

    def __init__(self) -> None:
        self.inner: BatchSpanProcessor | _Awaited | None = None
        self.counted: _Counted | None = None

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        if self.inner is not None:
            self.inner.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        if isinstance(self.inner, _Awaited):
            self.inner.replace()
        if self.inner is not None:
            self.inner.on_end(span)

    def shutdown(self) -> None:
        if self.inner is not None:
            self.inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        if self.inner is None or self.counted is None:
            return True
        before = self.counted.failures
        return self.inner.force_flush(timeout_millis) and self.counted.failures == before


class _Counted(SpanExporter):
    """Counts what becomes of spans.

    Attributes:
        failures: Exports that did not succeed.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.failures = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        outcome = "sent" if result is SpanExportResult.SUCCESS else "failed"
        self.failures += outcome == "failed"
        _EXPORTED.labels(outcome).inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


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
