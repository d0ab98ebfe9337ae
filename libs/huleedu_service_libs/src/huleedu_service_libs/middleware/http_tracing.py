"""The server span of a request, in the words of OpenTelemetry's HTTP conventions and in those of the services.

The layer around the application calls it. Attributes under ``http.request.``, ``url.`` and so on follow semantic
conventions 1.44; ``http.method``, ``http.target`` and their like are what dashboards of the services look for. Knows no
framework and no SDK.
"""

from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer
from prometheus_client import Counter

from huleedu_service_libs import _metrics
from huleedu_service_libs._asgi import Scope
from huleedu_service_libs._redaction import error_text, redact_path, redact_text
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.exchange import Exchange
from huleedu_service_libs.middleware.http_metrics import known_method
from huleedu_service_libs.observability.recording import record_exception_once

__all__ = ["UNTRACED", "ServerSpans"]

UNTRACED = ("/healthz", "/health", "/metrics")
"""What orchestrators and scrapers ask: a span each would drown those of users."""

_BAD_REQUEST, _SERVER_ERROR = 400, 500
_GONE = 499
_MOST_CHARACTERS = 2_048
"""Of a text that a client chose: what it sends is stored with every span."""
_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}


logger = create_service_logger("huleedu_service_libs.middleware")


class ServerSpans:
    """Makes the server spans of one application. A sampler, processor or exporter that fails costs spans, never requests.

    Args:
        tracer: Makes them.
        untraced: Paths without spans, each with everything below it.

    Raises:
        ValueError: A path of ``untraced`` does not begin with a slash.
    """

    __slots__ = ("_below", "_told", "_tracer", "_untraced")

    def __init__(self, tracer: Tracer, untraced: Collection[str] = ()) -> None:
        for path in untraced:
            if not path.startswith("/"):
                raise ValueError(f"a path that is not traced begins with a slash, such as /healthz, got {path!r}")
        self._tracer = tracer
        self._untraced = frozenset(untraced)
        self._below = tuple(f"{path.rstrip('/')}/" for path in untraced)
        self._told = False

    def wants(self, scope: Scope) -> bool:
        """Whether the request gets a span."""
        path: str = scope.get("path", "")
        root = scope.get("root_path")
        if root:
            path = path.removeprefix(root)
        return path not in self._untraced and not path.startswith(self._below)

    def start(self, scope: Scope, exchange: Exchange, parent: Context) -> Span:
        """A span below ``parent``. Its name is method and path until the route is known. Never raises."""
        method = _method(scope)
        path = redact_path(scope.get("path", "")[:_MOST_CHARACTERS])
        scheme = scope.get("scheme", "http")
        # Samplers see these; the rest is only collected for spans that are recorded.
        attributes = {"http.request.method": known_method(method), "url.path": path, "url.scheme": scheme}
        try:
            span = self._tracer.start_span(f"{method} {path}", parent, SpanKind.SERVER, attributes)
            if span.is_recording():
                span.set_attributes(_attributes(scope, exchange, method, path, scheme))
        except Exception as error:  # noqa: BLE001  # a sampler's or processor's own; the request has nothing to do with it
            self._tell("start", error)
            return INVALID_SPAN
        return span

    def end(self, span: Span, scope: Scope, exchange: Exchange) -> None:
        """Write down how it went, and end the span. Never raises."""
        try:
            if span.is_recording():
                _name(span, scope, exchange)
                _judge(span, exchange)
            span.end()
        except Exception as error:  # noqa: BLE001  # as above
            self._tell("end", error)

    def _tell(self, step: str, error: Exception) -> None:
        _failures().labels(step).inc()
        if not self._told:
            self._told = True
            logger.error("http_span_failed", step=step, error=error_text(error))


def _failures() -> Counter:
    return _metrics.counter(
        "http_spans_failed_total", "Server spans that tracing itself could not begin or end", ("step",)
    )


_failures()  # there from the beginning, and made again where a test suite has cleared the registry


def _method(scope: Scope) -> str:
    return str(scope.get("method", "GET"))  # a WebSocket begins as a GET


def _name(span: Span, scope: Scope, exchange: Exchange) -> None:
    method = known_method(_method(scope))
    name = "HTTP" if method == "_OTHER" else method
    if exchange.route is not None:
        span.set_attribute("http.route", exchange.route)
        name = f"{name} {exchange.route}"
    span.update_name(name)


def _attributes(scope: Scope, exchange: Exchange, method: str, path: str, scheme: str) -> dict[str, Any]:
    headers = exchange.headers
    query = redact_text(_text(scope.get("query_string", b"")))
    host, agent = _text(headers.get(b"host", b"")), _text(headers.get(b"user-agent", b""))
    target = f"{path}?{query}" if query else path
    found: dict[str, Any] = {
        "network.protocol.version": scope.get("http_version", "1.1"),
        "correlation_id": exchange.correlation_id,
        "http.method": method,
        "http.scheme": scheme,
        "http.host": host,
        "http.target": target,
        "http.url": f"{scheme}://{host}{target}",
        "http.user_agent": agent,
        **_server(scope, host, scheme),
    }
    if known_method(method) != method:
        found["http.request.method_original"] = method
    if agent:
        found["user_agent.original"] = agent
    if query:
        found["url.query"] = found["http.query"] = query
    client = scope.get("client")
    if client:
        found["client.address"] = client[0]
    return found


def _text(sent: bytes) -> str:
    return sent[:_MOST_CHARACTERS].decode("latin-1")


def _server(scope: Scope, host: str, scheme: str) -> dict[str, Any]:
    try:
        parts = urlsplit(f"//{host}")
        address, port = parts.hostname, parts.port
    except ValueError:  # what clients write there is theirs
        return {}
    if not address:
        address, port = scope.get("server") or (None, None)
    if not address:
        return {}
    port = port or _PORTS.get(scheme)
    return {"server.address": address, "server.port": port} if port else {"server.address": address}


def _judge(span: Span, exchange: Exchange) -> None:
    status, fault = exchange.outcome, exchange.fault
    attributes: dict[str, Any] = {"http.response_time_ms": round(exchange.seconds * 1000, 3)}
    answered = exchange.status is not None or exchange.accepted
    if answered:
        attributes["http.response.status_code"] = attributes["http.status_code"] = status
        attributes["http.response_content_length"] = attributes["http.response.body.size"] = exchange.sent
    if fault is not None:
        record_exception_once(span, fault)
    if status >= _SERVER_ERROR:
        attributes["error.type"] = _type(fault) or str(status)
        attributes["http.response.status_code"] = attributes["http.status_code"] = status
    elif status == _GONE and (not answered or exchange.left_early):
        attributes["error.type"] = _type(exchange.error) or "client_disconnected"
    elif fault is None and exchange.interrupted is not None:
        attributes["error.type"] = "client_disconnected" if exchange.interrupted == "client" else "server_stopped"
    span.set_attributes(attributes)
    _set_status(span, status)


def _type(error: BaseException | None) -> str | None:
    return None if error is None else type(error).__qualname__


def _set_status(span: Span, status: int) -> None:
    known: Any = getattr(span, "status", None)
    is_error = known is not None and known.status_code is StatusCode.ERROR
    if status >= _SERVER_ERROR:
        if not is_error:
            span.set_status(Status(StatusCode.ERROR))
    elif status >= _BAD_REQUEST:
        # The client's fault is none of the server's. An error of ours that was answered has marked the span already,
        # and only "OK" can take that back.
        if is_error:
            span.set_status(Status(StatusCode.OK))
    elif not is_error:
        span.set_status(Status(StatusCode.OK))
