"""HTTP metrics of a Quart application. FastAPI's are in ``middleware.frameworks.fastapi_metrics_middleware``."""

from collections.abc import Mapping
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart

from huleedu_service_libs.middleware.frameworks.quart_edge import edge_of
from huleedu_service_libs.middleware.http_metrics import BroughtCollectors, HttpMetrics

__all__ = [
    "setup_content_service_metrics_middleware",
    "setup_file_service_metrics_middleware",
    "setup_metrics_middleware",
    "setup_standard_service_metrics_middleware",
]


def setup_metrics_middleware(
    app: Quart,
    request_count_metric_name: str = "request_count",
    request_duration_metric_name: str = "request_duration",
    status_label_name: str = "status_code",
    logger_name: str | None = None,
) -> None:
    """Count and time the requests of ``app``, in collectors of the service and in ours (`HttpMetrics`).

    The service's are read at each request from ``app.extensions["metrics"]``, a dict that may be filled later or be
    missing; under the names given here, else under their other usual names. Their label names are fitted:
    ``method``, ``endpoint`` (the route's template), and whatever they call the status. One that does not fit is
    told once in the log and counted in ``http_metrics_unrecorded_total``. A second call replaces the first.

    Args:
        app: May have started serving, and may be in ``before_serving``.
        request_count_metric_name: Key of the counter.
        request_duration_metric_name: Key of the histogram.
        status_label_name: Of the counter.
        logger_name: Such as ``file_service.metrics``; the part before ``.metrics`` is the label ``service`` of ours;
            without it the application's ``config["SERVICE_NAME"]`` or name.
    """

    def find() -> Mapping[str, Any] | None:
        found = app.extensions.get("metrics")
        return found if isinstance(found, Mapping) else None

    brought = BroughtCollectors(
        find=find,
        count=request_count_metric_name,
        duration=request_duration_metric_name,
        status_label=status_label_name,
    )
    service = (logger_name or "").removesuffix(".metrics") or str(app.config.get("SERVICE_NAME") or app.name)
    edge_of(app).metrics = HttpMetrics(service, brought=brought, log_name=logger_name)


def setup_standard_service_metrics_middleware(app: Quart, service_name: str) -> None:
    """`setup_metrics_middleware` with the usual names.

    Args:
        app: As there.
        service_name: Label ``service`` of ours, and of the logger.
    """
    setup_metrics_middleware(app, logger_name=f"{service_name}.metrics")


def setup_content_service_metrics_middleware(app: Quart) -> None:
    """`setup_metrics_middleware` for ``http_requests_total`` and ``http_request_duration_seconds``."""
    setup_metrics_middleware(
        app,
        request_count_metric_name="http_requests_total",
        request_duration_metric_name="http_request_duration_seconds",
        logger_name="content_service.metrics",
    )


def setup_file_service_metrics_middleware(app: Quart) -> None:
    """`setup_metrics_middleware` for a counter whose label is ``status``."""
    setup_metrics_middleware(app, status_label_name="status", logger_name="file_service.metrics")
