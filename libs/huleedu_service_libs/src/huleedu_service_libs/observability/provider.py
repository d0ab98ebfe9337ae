"""Starts and stops the recording of spans: SDK, exporter, sampler. Services call `init_tracing` once, or more often.

Without the SDK (the extra ``tracing``) everything else of this package works as well; spans are then not recorded.
Nothing here connects or waits: the exporter's thread does, and a collector that is away costs spans, never requests.
"""

import os
import threading
from importlib.util import find_spec
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import ProxyTracerProvider, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from huleedu_service_libs.observability.settings import TracingSettings

__all__ = ["flush_tracing", "init_tracing", "shutdown_tracing"]


_lock = threading.Lock()
_recording: Any = None  # the running _sdk.Recording


def init_tracing(service_name: str, settings: TracingSettings | None = None) -> Tracer:
    """Record spans from now on, and return the service's tracer. A second call returns a tracer and changes nothing.

    The first call of a process decides about resource, sampler and exporter. Where somebody else has set a
    provider before, such as a test suite or an agent, that one stays. ``OTEL_SDK_DISABLED=true`` records nothing.
    Needs no collector: it connects when there are spans, and never waits.

    Args:
        service_name: The resource's ``service.name``. Beside it stand ``service.version``
            (variable ``SERVICE_VERSION``), ``deployment.environment`` (``ENVIRONMENT``) and ``service.namespace``.
        settings: By default everything comes from the environment.

    Raises:
        FileNotFoundError: There is no certificate file of that name.
        ValueError: It holds no certificate.
    """
    global _recording  # noqa: PLW0603  # like the provider, of which a process has one
    if find_spec("opentelemetry.sdk") is not None and os.environ.get("OTEL_SDK_DISABLED", "").lower() != "true":
        with _lock:
            from huleedu_service_libs.observability import _sdk  # noqa: PLC0415  # the SDK is an extra

            if _recording is not None:
                _recording.start(settings or TracingSettings())
            elif isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
                recording: Any = _sdk.Recording(service_name)
                recording.start(settings or TracingSettings())
                trace.set_tracer_provider(recording.provider)
                _recording = recording  # only now: settings that are refused change nothing
            propagate.set_global_textmap(TraceContextTextMapPropagator())
    return trace.get_tracer(service_name)


def flush_tracing(timeout_s: float = 5.0) -> bool:
    """Send what waits, and say whether all of it went out in time. Blocks: call it in a thread from a coroutine.

    Returns in time also where the SDK would not: its processors wait as long as the exporter tries.

    Args:
        timeout_s: How long it may take.
    """
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is None:
        return True
    answers: list[bool] = []

    def ask() -> None:
        answers.append(bool(flush(int(timeout_s * 1000))))

    thread = threading.Thread(target=ask, name="trace-flush", daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answers == [True]


def shutdown_tracing() -> None:
    """Send what waits, within the settings' time, and stop recording. Blocks as long.

    Idempotent; a later `init_tracing` records again. A provider that somebody else has set is theirs to stop.
    """
    with _lock:
        if _recording is not None:
            _recording.stop()
