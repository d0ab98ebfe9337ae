"""The Prometheus collectors of HTTP requests and WebSockets: names, labels, buckets. `http_metrics` fills them."""

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram

from huleedu_service_libs import _metrics

__all__ = ["Ours", "ours", "prefixed_ones"]

# Of OpenTelemetry's semantic conventions for http.server.request.duration.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_SESSION_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14_400, 86_400)
_BYTES = (256, 1024, 4096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216)


@dataclass(slots=True, kw_only=True)
class Ours:
    """One registry's, without their labels."""

    seconds: Histogram
    received: Histogram
    sent: Histogram
    active: Any
    sessions: Any
    session_seconds: Histogram
    interrupted: Counter
    unrecorded: Counter


def ours(registry: CollectorRegistry) -> Ours:
    """Ours in ``registry``, made when they do not exist yet."""
    full = ("service", "method", "endpoint", "status")
    sizes = full[:-1]
    return Ours(
        seconds=_metrics.histogram(
            "http_server_request_duration_seconds", "Until the last byte of the answer", full, _SECONDS, registry
        ),
        received=_metrics.histogram(
            "http_server_request_body_size_bytes", "Bodies of requests", sizes, _BYTES, registry
        ),
        sent=_metrics.histogram("http_server_response_body_size_bytes", "Bodies of answers", sizes, _BYTES, registry),
        active=_metrics.gauge(
            "http_server_active_requests", "Requests that are being served", ("service",), registry, "livesum"
        ),
        sessions=_metrics.gauge(
            "websocket_server_active_sessions", "WebSockets that are open", ("service",), registry, "livesum"
        ),
        session_seconds=_metrics.histogram(
            "websocket_server_session_duration_seconds",
            "WebSockets from handshake to end; status 101 when all went well",
            ("service", "endpoint", "status"),
            _SESSION_SECONDS,
            registry,
        ),
        interrupted=_metrics.counter(
            "http_server_interrupted_responses_total",
            "Answers that ended in their middle, by an error of the handler, the client's leaving or the server's end",
            ("service", "endpoint", "cause"),
            registry,
        ),
        unrecorded=_metrics.counter(
            "http_metrics_unrecorded_total",
            "Requests that a collector of the service could not take",
            ("service",),
            registry,
        ),
    )


def prefixed_ones(service: str, registry: CollectorRegistry) -> tuple[Counter, Histogram]:
    """Those that FastAPI services know, named after the service."""
    prefix = "".join(each if each.isalnum() and each.isascii() else "_" for each in service)
    count = _metrics.counter(
        f"{prefix}_http_requests_total", "HTTP requests", ("method", "endpoint", "status_code"), registry
    )
    duration = _metrics.histogram(
        f"{prefix}_http_request_duration_seconds", "HTTP request duration", ("method", "endpoint"), _SECONDS, registry
    )
    return count, duration
