"""What fits the library to one web framework, a module for each; no module knows two of them."""

from typing import Any

__all__ = ["setup_standard_service_metrics_middleware"]


def setup_standard_service_metrics_middleware(app: Any, service_name: str, registry: Any = None) -> None:
    """That of ``fastapi_metrics_middleware``, loaded when it is called. Quart's is in ``metrics_middleware``."""
    from huleedu_service_libs.middleware.frameworks import fastapi_metrics_middleware  # noqa: PLC0415  # loads FastAPI

    fastapi_metrics_middleware.setup_standard_service_metrics_middleware(app, service_name, registry)
