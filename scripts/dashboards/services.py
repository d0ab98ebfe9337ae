"""HTTP, health and the processes themselves."""

from dashboards.panels import JOB, Dashboard, Panel, quantile, rate

__all__ = ["SERVICES"]

_HEALTH = {0: ("pass", "green"), 1: ("warn", "yellow"), 2: ("fail", "red")}
_YES = {0: ("no", "red"), 1: ("yes", "green")}
_PATHS = ', endpoint!~"/healthz.*|/metrics"'

SERVICES = Dashboard(
    uid="huleedu-services",
    title="HuleEdu services",
    anchor="http_server_active_requests",
    panels=[
        Panel(
            title="Who takes traffic?",
            help="0 while a process starts, stops, or has failed by itself. Ask /healthz/details of it for the cause.",
            queries={"{{job}} {{instance}}": f"huleedu_health_ready{{{JOB}}}"},
            kind="state-timeline",
            states=_YES,
        ),
        Panel(
            title="How are the parts?",
            help="Damped state of each component, the worst of all processes. /healthz/details says why and since when.",
            queries={"{{job}} {{component}}": f"max by (job, component) (huleedu_health_component_status{{{JOB}}})"},
            kind="state-timeline",
            states=_HEALTH,
        ),
        Panel(
            title="Event loop lag",
            help="Something blocks the loop when this is more than a few hundredths of a second: everything waits for it.",
            queries={"{{job}} {{instance}}": f"huleedu_health_loop_lag_seconds{{{JOB}}}"},
            unit="s",
        ),
        Panel(
            title="Requests",
            help="Requests a second by status, health and metrics apart.",
            queries={"{{job}} {{status}}": rate("http_server_request_duration_seconds_count", "job, status", _PATHS)},
            unit="reqps",
        ),
        Panel(
            title="Failed requests",
            help="Share of 5xx, health and metrics apart. Look at the slowest traces and at the log by correlation id.",
            queries={
                "{{job}}": rate("http_server_request_duration_seconds_count", "job", ', status=~"5.."' + _PATHS)
                + " / "
                + rate("http_server_request_duration_seconds_count", "job", _PATHS)
                # Where none ever failed there is no series to count, and nothing to see would look like no data.
                + " or "
                + rate("http_server_request_duration_seconds_count", "job", _PATHS)
                + " * 0"
            },
            unit="percentunit",
        ),
        Panel(
            title="Latency",
            help="Until the last byte. Dots are single requests: they lead to their traces.",
            queries={
                "{{job}} p50": quantile(0.5, "http_server_request_duration_seconds", more=_PATHS),
                "{{job}} p99": quantile(0.99, "http_server_request_duration_seconds", more=_PATHS),
            },
            unit="s",
            exemplars=True,
        ),
        Panel(
            title="Slowest endpoints, p95",
            help="By route template.",
            queries={
                "{{job}} {{method}} {{endpoint}}": "topk(10, "
                + quantile(0.95, "http_server_request_duration_seconds", "job, method, endpoint", _PATHS)
                + ")"
            },
            unit="s",
        ),
        Panel(
            title="In hand",
            help="Requests being served and WebSockets that are open.",
            queries={
                "{{job}} requests": f"sum by (job) (http_server_active_requests{{{JOB}}})",
                "{{job}} WebSockets": f"sum by (job) (websocket_server_active_sessions{{{JOB}}})",
            },
        ),
        Panel(
            title="Errors that were survived",
            help="Swallowed on purpose; each has one line in the log. A steady rate is a fault that nobody feels yet.",
            queries={
                "{{job}} Kafka {{operation}}": rate("huleedu_kafka_client_swallowed_errors_total", "job, operation"),
                "{{job}} Redis {{operation}}": rate("huleedu_redis_client_swallowed_errors_total", "job, operation"),
                "{{job}} health {{component}}": rate("huleedu_health_looks_failed_total", "job, component"),
            },
            unit="ops",
        ),
        Panel(
            title="Memory",
            help="Resident memory of each process.",
            queries={"{{job}} {{instance}}": f"process_resident_memory_bytes{{{JOB}}}"},
            unit="bytes",
        ),
        Panel(
            title="CPU",
            help="Cores. One asyncio process cannot use more than one.",
            queries={"{{job}} {{instance}}": f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])"},
        ),
        Panel(
            title="Bodies of answers, p95",
            help="Bytes.",
            queries={"{{job}}": quantile(0.95, "http_server_response_body_size_bytes")},
            unit="bytes",
        ),
    ],
)
