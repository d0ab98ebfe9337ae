"""Shared infrastructure of event-driven asyncio services.

Importing this package, or any light module of it, loads no driver and no web
framework: the names below are fetched from their modules when they are first
used (PEP 562).
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.kafka_client import KafkaBus
    from huleedu_service_libs.observability.tracing import (
        extract_trace_context,
        get_current_trace_id,
        init_tracing,
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
    "init_tracing",
    "inject_trace_context",
    "trace_operation",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "HuleEduApp": "huleedu_service_libs.quart_app",
        "KafkaBus": "huleedu_service_libs.kafka_client",
        "RedisClient": "huleedu_service_libs.redis_client",
        "extract_trace_context": "huleedu_service_libs.observability.tracing",
        "get_current_trace_id": "huleedu_service_libs.observability.tracing",
        "init_tracing": "huleedu_service_libs.observability.tracing",
        "inject_trace_context": "huleedu_service_libs.observability.tracing",
        "trace_operation": "huleedu_service_libs.observability.tracing",
    },
)
