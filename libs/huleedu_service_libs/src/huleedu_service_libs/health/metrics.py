"""Prometheus metrics of a service's health."""

from huleedu_service_libs import _metrics

__all__ = ["CHANGES", "COMPONENT", "FAILED", "LOOP_LAG", "READY", "REFUSED"]

COMPONENT = _metrics.gauge(
    "huleedu_health_component_status", "Damped state of a component: 0 pass, 1 warn, 2 fail", ("service", "component")
)
CHANGES = _metrics.counter(
    "huleedu_health_component_changes_total", "Changes of the damped state", ("service", "component", "to")
)
FAILED = _metrics.counter(
    "huleedu_health_looks_failed_total", "Looks that found a failure, raised or took too long", ("service", "component")
)
READY = _metrics.gauge("huleedu_health_ready", "1 while this process asks for traffic", ("service",))
LOOP_LAG = _metrics.gauge(
    "huleedu_health_loop_lag_seconds", "How late the event loop was, at the worst of the last look", ("service",)
)
REFUSED = _metrics.counter(
    "huleedu_health_refused_requests_total", "Requests refused because the process was stopping", ("service",)
)
