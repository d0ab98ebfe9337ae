"""HTTP metrics of both frameworks: labels, bounds of the number of series, sizes, what is in flight."""

import asyncio
from typing import Any

import pytest
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from huleedu_service_libs.middleware.exchange import Exchange
from huleedu_service_libs.middleware.http_metrics import HttpMetrics

from .applications import Make, ask, http_scope, make_quart, open_websocket, template
from .numbers import count, sessions
from .set_ups import ignore, never, set_up_metrics, set_up_tracing


def series() -> int:
    """All series there are."""
    return sum(len(family.samples) for family in REGISTRY.collect())


@pytest.mark.parametrize(
    ("rest", "status"), [("", "200"), ("/missing", "404"), ("/broken", "500"), ("/stream", "200"), ("/breaks", "200")]
)
async def test_a_request_is_counted_under_its_template(make: Make, rest: str, status: str) -> None:
    """Whatever the id in the path and however it ends, one series a route and status; nothing stays in flight."""
    app = set_up_metrics(make())
    for essay_id in ("1", "2"):
        await ask(app, f"/v1/essays/{essay_id}{rest}")
    assert count(template(app, rest), status) == 2
    assert REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}) == 0


async def test_a_method_that_the_route_does_not_have_is_counted_under_it(make: Make) -> None:
    """A 405 is the answer of a route that is known, whichever method it has; of a path that nobody has it stays unmatched."""
    app = set_up_metrics(make())
    for path, method in (("/v1/essays/1", "DELETE"), ("/v1/essays/1/upload", "GET"), ("/nothing", "DELETE")):
        await ask(app, path, method)
    assert count(template(app), "405", method="DELETE") == 1
    assert count(template(app, "/upload"), "405") == 1
    assert count("__unmatched__", "404", method="DELETE") == 1
    assert count("__unmatched__", "405", method="DELETE") == 0


async def test_errors_without_handlers_count_as_500(make: Make) -> None:
    """The framework's own answer to an exception is a 500 like any other."""
    app = set_up_metrics(make(handlers=False))
    await ask(app, "/v1/essays/1/broken")
    assert count(template(app, "/broken"), "500") == 1


async def test_scanners_leave_the_number_of_series_constant(make: Make) -> None:
    """Unknown paths, wrong methods and invented methods share their buckets, whatever their number."""
    app = set_up_metrics(make())
    await ask(app, "/unknown/0")
    await ask(app, "/v1/essays/0", method="HACK0")
    before = series()
    for number in range(1, 500):
        await ask(app, f"/unknown/{number}.php")
        await ask(app, f"/v1/essays/{number}", method=f"HACK{number}")
    assert series() == before
    assert count("__unmatched__", "404") == 500


def test_a_hundred_thousand_urls_leave_the_number_of_series_constant() -> None:
    """Also where an application makes templates by itself: beyond a limit everything is one series."""

    async def nothing(*_: Any) -> Any: ...

    metrics = HttpMetrics("svc", registry=REGISTRY)
    sizes = []
    for number in range(100_000):
        exchange = Exchange(http_scope(f"/{number}"), nothing, nothing)
        exchange.status, exchange.route = 200, f"/{number}" if number % 2 else None
        metrics.begin(exchange)
        metrics.end(exchange, "GET")
        if number in {12_000, 99_999}:
            sizes.append(len(metrics._series))
    assert sizes[0] == sizes[1]
    assert count("__overflow__", "200") > 40_000
    assert count("__unmatched__", "200") == 50_000


def test_endpoints_of_websockets_are_bounded_too() -> None:
    """An application that makes templates by itself makes no series without end of its sessions either."""

    async def nothing(*_: Any) -> Any: ...

    metrics = HttpMetrics("svc", registry=REGISTRY)
    for number in range(6_000):
        exchange = Exchange({**http_scope(f"/{number}"), "type": "websocket"}, nothing, nothing)
        exchange.accepted, exchange.route = True, f"/{number}"
        metrics.begin(exchange)
        metrics.end(exchange, "WEBSOCKET")
    assert sessions("/4999", "101") == 1
    assert sessions("/5000", "101") == 0
    assert sessions("__overflow__", "101") == 1_000


async def test_sizes_are_known(make: Make) -> None:
    """Bytes of bodies in both directions, also of a body whose length nobody has announced."""
    app = set_up_metrics(make())
    await ask(app, "/v1/essays/1", "POST", content=b"x" * 300)
    await ask(app, "/v1/essays/1/stream")
    labels = {"service": "svc", "method": "POST", "endpoint": template(app)}
    assert REGISTRY.get_sample_value("http_server_request_body_size_bytes_sum", labels) == 300
    streamed = {"service": "svc", "method": "GET", "endpoint": template(app, "/stream")}
    assert REGISTRY.get_sample_value("http_server_response_body_size_bytes_sum", streamed) == 12


async def test_a_request_in_flight_is_seen_and_a_client_that_leaves_is_499(make: Make) -> None:
    """The gauge counts what is being served; who leaves before the answer is told apart from errors."""
    app = set_up_metrics(make())
    task = asyncio.create_task(app(http_scope("/v1/essays/1/slow"), never, ignore))
    async with asyncio.timeout(20):
        while not REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}):
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}) == 0
    assert count(template(app, "/slow"), "499") == 1


@pytest.mark.parametrize(("essay_id", "status", "code"), [("1", "101", 1000), ("broken", "500", 1011)])
async def test_websockets_have_their_own_collectors(make: Make, essay_id: str, status: str, code: int) -> None:
    """A session is counted under its template; one whose handler fails is closed with 1011."""
    app = set_up_metrics(make())
    sent = await open_websocket(app, f"/v1/essays/{essay_id}/ws")
    assert [each["type"] for each in sent] == ["websocket.accept", "websocket.close"]
    assert sent[-1].get("code", 1000) == code
    labels = {"service": "svc", "endpoint": template(app, "/ws"), "status": status}
    assert REGISTRY.get_sample_value("websocket_server_session_duration_seconds_count", labels) == 1
    assert REGISTRY.get_sample_value("websocket_server_active_sessions", {"service": "svc"}) == 0


async def test_quart_closes_with_1011_without_error_handlers_too() -> None:
    """What no handler knows is no normal end of a WebSocket."""
    app = set_up_metrics(make_quart(handlers=False))
    sent = await open_websocket(app, "/v1/essays/broken/ws")
    assert sent[-1]["code"] == 1011


async def test_exemplars_lead_to_the_trace(make: Make, tracer: Tracer) -> None:
    """In the OpenMetrics form a sampled request's trace id stands beside its bucket."""
    app = set_up_tracing(set_up_metrics(make()), tracer)
    answer = await ask(app, "/v1/essays/1")
    text = str(generate_openmetrics(REGISTRY), "utf-8")  # type: ignore[no-untyped-call]  # prometheus_client's
    assert f'# {{span_id="{answer.headers["X-Span-ID"]}",trace_id="{answer.headers["X-Trace-ID"]}"}}' in text
