"""Shared infrastructure of event-driven asyncio services.

Importing this package, or any light module of it, loads no driver and no web
framework: the names below are fetched from their modules when they are first
used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from huleedu_service_libs.kafka_client import KafkaBus
    from huleedu_service_libs.observability.tracing import (
        extract_trace_context,
        get_current_trace_id,
        inject_trace_context,
        trace_operation,
    )
    from huleedu_service_libs.quart_app import HuleEduApp
    from huleedu_service_libs.redis_client import RedisClient

__all__ = [
    "HuleEduApp",
    "KafkaBus",
    "RedisClient",
    "extract_trace_context",
    "get_current_trace_id",
    "inject_trace_context",
    "trace_operation",
]

_HOMES = {
    "HuleEduApp": "quart_app",
    "KafkaBus": "kafka_client",
    "RedisClient": "redis_client",
    "extract_trace_context": "observability.tracing",
    "get_current_trace_id": "observability.tracing",
    "inject_trace_context": "observability.tracing",
    "trace_operation": "observability.tracing",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
