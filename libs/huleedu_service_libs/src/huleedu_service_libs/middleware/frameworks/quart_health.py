"""The health endpoints of a Quart application, and the gate in front of it."""

from functools import partial

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart, Response

from huleedu_service_libs.health.answers import ENDPOINTS, answer
from huleedu_service_libs.health.gate import TrafficGate
from huleedu_service_libs.health.service import ServiceHealth

__all__ = ["setup_health"]


def setup_health(app: Quart, health: ServiceHealth, *, prefix: str = "/healthz") -> None:
    """Serve ``prefix`` and what `health.answers` lists below it, and count and refuse requests for the drain.

    Args:
        app: Has not served yet. ``app.extensions["health"]`` becomes ``health``.
        health: Started by the service when everything else has started.
        prefix: Where; it begins with a slash and ends with none.
    """
    app.extensions["health"] = health
    for endpoint in ENDPOINTS:
        name = f"huleedu_health{endpoint.replace('/', '_')}"
        app.add_url_rule(f"{prefix}{endpoint}", name, partial(_serve, health, endpoint), methods=["GET"])
    app.asgi_app = TrafficGate(app.asgi_app, health.drain, service_name=health.service_name, exempt=prefix)  # type: ignore[method-assign,assignment,arg-type]  # Quart's own way, but typed closely


async def _serve(health: ServiceHealth, endpoint: str) -> Response:
    found = await answer(health, endpoint)
    return Response(found.body, found.status, headers=found.headers)
