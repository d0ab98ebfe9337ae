"""What the default registry says of requests."""

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

DURATION = "http_server_request_duration_seconds"
_OURS = ("http_", "websocket_", "svc_")


def forget() -> None:
    """Unregister and empty what the tests of this folder fill."""
    for collector, names in list(REGISTRY._collector_to_names.items()):
        if any(name.startswith(_OURS) for name in names):
            REGISTRY.unregister(collector)
            if isinstance(collector, MetricWrapperBase):
                collector.clear()


def count(endpoint: str, status: str, method: str = "GET", service: str = "svc", name: str = DURATION) -> float:
    """How many requests the collectors of ours have seen; 0 for a series that does not exist."""
    labels = {"service": service, "method": method, "endpoint": endpoint, "status": status}
    return REGISTRY.get_sample_value(f"{name}_count", labels) or 0


def sessions(endpoint: str, status: str) -> float:
    """The same for WebSockets."""
    labels = {"service": "svc", "endpoint": endpoint, "status": status}
    return REGISTRY.get_sample_value("websocket_server_session_duration_seconds_count", labels) or 0


def interrupted(endpoint: str, cause: str) -> float:
    """Answers that ended in their middle."""
    labels = {"service": "svc", "endpoint": endpoint, "cause": cause}
    return REGISTRY.get_sample_value("http_server_interrupted_responses_total", labels) or 0


def size(which: str, endpoint: str, method: str = "GET") -> float | None:
    """The sum of the bodies of ``request`` or ``response``."""
    labels = {"service": "svc", "method": method, "endpoint": endpoint}
    return REGISTRY.get_sample_value(f"http_server_{which}_body_size_bytes_sum", labels)


def open_now() -> float:
    """Requests and WebSockets in flight."""
    gauges = ("http_server_active_requests", "websocket_server_active_sessions")
    return sum(REGISTRY.get_sample_value(name, {"service": "svc"}) or 0 for name in gauges)
