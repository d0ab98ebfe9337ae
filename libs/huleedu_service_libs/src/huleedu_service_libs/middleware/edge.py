"""What the one layer around an application does beyond ids: metrics, spans and late errors, when they are set up.

Each of the services' set-up functions adds its part to the application's `Edge`, in any order, before or after the
application has started. Knows no framework.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._asgi import Scope
from huleedu_service_libs.middleware.exchange import Exchange
from huleedu_service_libs.middleware.http_metrics import HttpMetrics
from huleedu_service_libs.middleware.http_tracing import ServerSpans

__all__ = ["Edge"]


@dataclass(slots=True, kw_only=True)
class Edge:
    """The parts that an application has asked for; changed while it runs.

    Attributes:
        metrics: Counts requests.
        spans: Traces them.
        on_error: Told of an exception that leaves the application, which goes on afterwards.
        show: Shows views what the layer knows of a request, in frameworks that have a place for it.
        route: Finds the template afterwards, for frameworks that do not tell it while they route.
    """

    metrics: HttpMetrics | None = None
    spans: ServerSpans | None = None
    on_error: Callable[[Scope, Exception], None] | None = None
    show: Callable[[Any], None] | None = None
    route: Callable[[Scope, Exchange], str | None] | None = None
