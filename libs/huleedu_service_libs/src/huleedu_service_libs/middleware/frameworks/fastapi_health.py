"""The health endpoints of a FastAPI application, and the gate in front of it."""

from collections.abc import Awaitable, Callable

from huleedu_service_libs._extras import requires_extra

with requires_extra("fastapi", module=__name__):
    from fastapi import FastAPI, Response

from huleedu_service_libs.health.answers import ENDPOINTS, answer
from huleedu_service_libs.health.gate import TrafficGate
from huleedu_service_libs.health.service import ServiceHealth

__all__ = ["setup_health"]


def setup_health(app: FastAPI, health: ServiceHealth, *, prefix: str = "/healthz") -> None:
    """Serve ``prefix`` and what `health.answers` lists below it, and count and refuse requests for the drain.

    The endpoints stand in no OpenAPI document.

    Args:
        app: Has not served yet. ``app.state.health`` becomes ``health``.
        health: Started by the service when everything else has started.
        prefix: Where; it begins with a slash and ends with none.
    """
    app.state.health = health
    for endpoint in ENDPOINTS:
        name = f"huleedu_health{endpoint.replace('/', '_')}"
        route = _serve(health, endpoint)
        app.add_api_route(
            f"{prefix}{endpoint}",
            route,
            methods=["GET", "HEAD"],
            name=name,
            include_in_schema=False,
            response_model=None,
        )
    app.add_middleware(TrafficGate, drain=health.drain, service_name=health.service_name, exempt=prefix)


def _serve(health: ServiceHealth, endpoint: str) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        found = await answer(health, endpoint)
        return Response(found.body, found.status, headers=found.headers)

    return serve
