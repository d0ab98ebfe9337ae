"""Counts and times HTTP requests and WebSockets in Prometheus collectors: ours, and those that a service brings.

The layer around the application calls it. Labels are bounded: the endpoint is a route's template, methods
are the known ones, and beyond a limit of endpoints everything new is one series. Knows no framework.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram

from huleedu_service_libs import _metrics
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.exchange import UNMATCHED, Exchange
from huleedu_service_libs.middleware.http_collectors import ours, prefixed_ones

__all__ = ["OVERFLOW", "BroughtCollectors", "HttpMetrics", "known_method"]

OVERFLOW = "__overflow__"
"""Stands for every further endpoint when an application has more than `MOST_SERIES` series."""

MOST_SERIES = 5_000
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"})
_OTHER = "_OTHER"  # the word of OpenTelemetry's conventions
_THREE_DIGITS = range(100, 600)

_KINDS_OF_LABELS: Mapping[str, str] = {
    **dict.fromkeys(("method", "http_method", "verb"), "method"),
    **dict.fromkeys(("endpoint", "path", "route", "handler", "http_route", "url_rule"), "endpoint"),
    **dict.fromkeys(("status", "status_code", "http_status", "http_status_code", "code"), "status"),
    **dict.fromkeys(("service", "service_name", "app", "app_name"), "service"),
}
_OTHER_COUNT_NAMES = ("request_count", "http_requests_total", "requests_total")
_OTHER_DURATION_NAMES = ("request_duration", "http_request_duration_seconds", "request_duration_seconds")


def known_method(method: str) -> str:
    """``method``, or ``_OTHER`` for one that HTTP does not know."""
    return method if method in _METHODS else _OTHER


@dataclass(frozen=True, slots=True, kw_only=True)
class BroughtCollectors:
    """Where a service keeps collectors of its own.

    Attributes:
        find: Its collectors by key, at the moment of the request; ``None`` while there are none.
        count: Key of the counter.
        duration: Key of the histogram.
        status_label: What it calls the status.
    """

    find: Callable[[], Mapping[str, Any] | None]
    count: str = "request_count"
    duration: str = "request_duration"
    status_label: str = "status_code"


class HttpMetrics:
    """The collectors of one application.

    Ours carry the labels ``service``, ``method``, ``endpoint`` and ``status``:
    ``http_server_request_duration_seconds`` (its ``_count`` are the requests), ``http_server_request_body_size_bytes``,
    ``http_server_response_body_size_bytes``, ``http_server_active_requests``,
    ``websocket_server_session_duration_seconds`` and ``websocket_server_active_sessions``. Answers that began and did not
    end are in ``http_server_interrupted_responses_total`` by ``cause``.

    Args:
        service: Label of ours.
        registry: Where they stand.
        prefixed: Also fill ``<service>_http_requests_total`` and ``<service>_http_request_duration_seconds``, which
            FastAPI services know.
        brought: Collectors of the service, filled beside ours; found under their other usual keys too.
        log_name: Of the logger that tells, once, of a collector that does not fit.
    """

    def __init__(
        self,
        service: str,
        *,
        registry: CollectorRegistry = REGISTRY,
        prefixed: bool = False,
        brought: BroughtCollectors | None = None,
        log_name: str | None = None,
    ) -> None:
        self._service = service
        self._brought = brought
        self._series: dict[tuple[str, str, int], _Series] = {}
        self._session_endpoints: set[str] = set()
        self._told: set[str] = set()
        self._logger = create_service_logger(log_name or "huleedu_service_libs.middleware")
        self._ours = ours(registry)
        self._unfit = self._ours.unrecorded.labels(service)
        self._active = self._ours.active.labels(service)
        self._sessions = self._ours.sessions.labels(service)
        self._prefixed = prefixed_ones(service, registry) if prefixed else None

    def begin(self, exchange: Exchange) -> None:
        """A request has come."""
        (self._active if exchange.kind == "http" else self._sessions).inc()

    def end(self, exchange: Exchange, method: str) -> None:
        """It is answered, or over in another way. Never raises."""
        if exchange.kind == "websocket":
            self._end_session(exchange)
            return
        self._active.dec()
        key = known_method(method), exchange.route or UNMATCHED, exchange.outcome
        series = self._series.get(key) or self._new_series(*key)
        seconds, exemplar = exchange.seconds, exchange.exemplar
        series.seconds(seconds, exemplar)
        series.received(exchange.received, None)
        series.sent(exchange.sent, None)
        if series.prefixed is not None:
            series.prefixed[0](1, exemplar)
            series.prefixed[1](seconds, exemplar)
        if self._brought is not None:
            self._fill(self._brought, series.labels, seconds, exemplar)
        if exchange.finished is None:
            self._tell_interruption(exchange, series.labels["endpoint"])

    def _end_session(self, exchange: Exchange) -> None:
        self._sessions.dec()
        endpoint = exchange.route or UNMATCHED
        if endpoint not in self._session_endpoints:
            if len(self._session_endpoints) < MOST_SERIES:
                self._session_endpoints.add(endpoint)
            else:
                endpoint = OVERFLOW
        status = str(exchange.outcome) if exchange.outcome in _THREE_DIGITS else _OTHER
        series = self._ours.session_seconds.labels(self._service, endpoint, status)
        series.observe(exchange.seconds, exchange.exemplar)

    def _tell_interruption(self, exchange: Exchange, endpoint: str) -> None:
        cause = exchange.interrupted
        if cause is not None:
            self._ours.interrupted.labels(self._service, endpoint, cause).inc()

    def _new_series(self, method: str, endpoint: str, status: int) -> "_Series":
        if len(self._series) >= MOST_SERIES:
            endpoint = OVERFLOW
        text = str(status) if status in _THREE_DIGITS else _OTHER
        ours, service = self._ours, self._service
        prefixed = None
        if self._prefixed is not None:
            count, duration = self._prefixed
            prefixed = (count.labels(method, endpoint, text).inc, _metrics.observer(duration.labels(method, endpoint)))
        series = _Series(
            labels={"method": method, "endpoint": endpoint, "status": text, "service": service},
            seconds=_metrics.observer(ours.seconds.labels(service, method, endpoint, text)),
            received=_metrics.observer(ours.received.labels(service, method, endpoint)),
            sent=_metrics.observer(ours.sent.labels(service, method, endpoint)),
            prefixed=prefixed,
        )
        if endpoint is not OVERFLOW:
            self._series[method, endpoint, status] = series
        return series

    def _fill(
        self, brought: BroughtCollectors, labels: Mapping[str, str], seconds: float, exemplar: dict[str, str] | None
    ) -> None:
        collectors = brought.find()
        if not collectors:
            return
        count = _first(collectors, brought.count, _OTHER_COUNT_NAMES)
        duration = _first(collectors, brought.duration, _OTHER_DURATION_NAMES)
        try:
            if count is not None:
                child = self._labelled(count, labels, ("method", "endpoint", brought.status_label))
                child.inc(1, exemplar) if isinstance(count, Counter) else child.inc()
            if duration is not None:
                child = self._labelled(duration, labels, ("method", "endpoint"))
                child.observe(seconds, exemplar) if isinstance(duration, Histogram) else child.observe(seconds)
        except Exception as error:  # noqa: BLE001  # the service's collectors are its own; a request is no place to fail for them
            self._tell(error)

    def _labelled(self, collector: Any, labels: Mapping[str, str], usual: tuple[str, ...]) -> Any:
        names = getattr(collector, "_labelnames", None)
        if not isinstance(names, tuple):  # a double
            return collector.labels(**{name: labels[self._kind_of(name)] for name in usual})
        return collector.labels(*[labels[self._kind_of(name)] for name in names]) if names else collector

    def _kind_of(self, label: str) -> str:
        if self._brought is not None and label == self._brought.status_label:
            return "status"
        kind = _KINDS_OF_LABELS.get(label)
        if kind is None:
            raise ValueError(f"the label {label!r} says nothing of a request; known are {sorted(_KINDS_OF_LABELS)}")
        return kind

    def _tell(self, error: Exception) -> None:
        self._unfit.inc()
        text = error_text(error)
        if text not in self._told and len(self._told) < len(_METHODS):
            self._told.add(text)
            self._logger.error("http_metrics_not_recorded", service=self._service, error=text)


@dataclass(slots=True, kw_only=True)
class _Series:
    """The children of one method, endpoint and status: looking them up costs more than counting."""

    labels: Mapping[str, str]
    seconds: Callable[..., None]
    received: Callable[..., None]
    sent: Callable[..., None]
    prefixed: tuple[Callable[..., None], Callable[..., None]] | None


def _first(collectors: Mapping[str, Any], key: str, others: tuple[str, ...]) -> Any:
    found = collectors.get(key)
    if found is not None:
        return found
    return next((collectors[other] for other in others if collectors.get(other) is not None), None)
