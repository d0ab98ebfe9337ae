"""HTTP metrics of a FastAPI application."""

from huleedu_service_libs._extras import requires_extra

with requires_extra("fastapi", module=__name__):
    from fastapi import FastAPI

from prometheus_client import REGISTRY, CollectorRegistry

from huleedu_service_libs._asgi import Application
from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.frameworks.fastapi_edge import edge_of, template_of
from huleedu_service_libs.middleware.http_metrics import HttpMetrics
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware

__all__ = ["StandardMetricsMiddleware", "setup_standard_service_metrics_middleware"]


def setup_standard_service_metrics_middleware(
    app: FastAPI, service_name: str, registry: CollectorRegistry | None = None
) -> None:
    """Count and time the requests of ``app``.

    Fills ``<service_name>_http_requests_total`` (labels ``method``, ``endpoint``, ``status_code``) and
    ``<service_name>_http_request_duration_seconds`` (``method``, ``endpoint``), characters that Prometheus does not
    take replaced by underscores, beside the collectors of `HttpMetrics`. The endpoint is the route's template. An
    exception of a handler counts as 500 and goes on. Several applications and repeated calls share collectors.

    Args:
        app: May have started serving.
        service_name: Prefix, and label ``service`` of ours.
        registry: By default the global one.
    """
    edge_of(app).metrics = HttpMetrics(service_name, registry=registry or REGISTRY, prefixed=True)


class StandardMetricsMiddleware(RequestContextMiddleware):
    """The same for ``app.add_middleware(StandardMetricsMiddleware, service_name=…)``. Pure ASGI.

    Args:
        app: The application to wrap.
        service_name: As above.
        registry: As above.
    """

    def __init__(self, app: Application, service_name: str, registry: CollectorRegistry | None = None) -> None:
        metrics = HttpMetrics(service_name, registry=registry or REGISTRY, prefixed=True)
        super().__init__(app, Edge(metrics=metrics, route=template_of))
