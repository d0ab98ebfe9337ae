"""HTTP metrics of both frameworks: labels, bounds, what a service brings, what survives."""

import asyncio
import gc
import subprocess
import sys
import warnings
from contextlib import suppress
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from hypercorn.middleware import DispatcherMiddleware
from opentelemetry.trace import Tracer
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Summary, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from quart import Quart

from huleedu_service_libs import metrics_middleware
from huleedu_service_libs.middleware import frameworks
from huleedu_service_libs.middleware.exchange import Exchange
from huleedu_service_libs.middleware.frameworks import (
    fastapi_metrics_middleware,
    fastapi_middleware,
    quart_middleware,
)
from huleedu_service_libs.middleware.http_metrics import HttpMetrics

from .applications import Make, ask, http_scope, make_fastapi, make_quart, open_websocket, template
from .numbers import DURATION, count, sessions


def set_up(app: Any, service: str = "svc") -> Any:
    """The set-up function of the framework."""
    if isinstance(app, Quart):
        metrics_middleware.setup_standard_service_metrics_middleware(app, service)
    else:
        fastapi_metrics_middleware.setup_standard_service_metrics_middleware(app, service)
    return app


def series() -> int:
    """All series there are."""
    return sum(len(family.samples) for family in REGISTRY.collect())


@pytest.mark.parametrize(
    ("rest", "status"), [("", "200"), ("/missing", "404"), ("/broken", "500"), ("/stream", "200"), ("/breaks", "200")]
)
async def test_a_request_is_counted_under_its_template(make: Make, rest: str, status: str) -> None:
    """Whatever the id in the path and however it ends, one series a route and status; nothing stays in flight."""
    app = set_up(make())
    for essay_id in ("1", "2"):
        await ask(app, f"/v1/essays/{essay_id}{rest}")
    assert count(template(app, rest), status) == 2
    assert REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}) == 0


async def test_a_method_that_the_route_does_not_have_is_counted_under_it(make: Make) -> None:
    """A 405 is the answer of a route that is known, whichever method it has; of a path that nobody has it stays unmatched."""
    app = set_up(make())
    for path, method in (("/v1/essays/1", "DELETE"), ("/v1/essays/1/upload", "GET"), ("/nothing", "DELETE")):
        await ask(app, path, method)
    assert count(template(app), "405", method="DELETE") == 1
    assert count(template(app, "/upload"), "405") == 1
    assert count("__unmatched__", "404", method="DELETE") == 1
    assert count("__unmatched__", "405", method="DELETE") == 0


async def test_errors_without_handlers_count_as_500(make: Make) -> None:
    """The framework's own answer to an exception is a 500 like any other."""
    app = set_up(make(handlers=False))
    await ask(app, "/v1/essays/1/broken")
    assert count(template(app, "/broken"), "500") == 1


async def test_scanners_leave_the_number_of_series_constant(make: Make) -> None:
    """Unknown paths, wrong methods and invented methods share their buckets, whatever their number."""
    app = set_up(make())
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
    app = set_up(make())
    await ask(app, "/v1/essays/1", "POST", content=b"x" * 300)
    await ask(app, "/v1/essays/1/stream")
    labels = {"service": "svc", "method": "POST", "endpoint": template(app)}
    assert REGISTRY.get_sample_value("http_server_request_body_size_bytes_sum", labels) == 300
    streamed = {"service": "svc", "method": "GET", "endpoint": template(app, "/stream")}
    assert REGISTRY.get_sample_value("http_server_response_body_size_bytes_sum", streamed) == 12


async def test_a_request_in_flight_is_seen_and_a_client_that_leaves_is_499(make: Make) -> None:
    """The gauge counts what is being served; who leaves before the answer is told apart from errors."""
    app = set_up(make())
    task = asyncio.create_task(app(http_scope("/v1/essays/1/slow"), _never, _ignore))
    async with asyncio.timeout(20):
        while not REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}):
            await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert REGISTRY.get_sample_value("http_server_active_requests", {"service": "svc"}) == 0
    assert count(template(app, "/slow"), "499") == 1


async def _never() -> Any:
    await asyncio.Event().wait()


async def _ignore(_message: Any) -> None: ...


@pytest.mark.parametrize(("essay_id", "status", "code"), [("1", "101", 1000), ("broken", "500", 1011)])
async def test_websockets_have_their_own_collectors(make: Make, essay_id: str, status: str, code: int) -> None:
    """A session is counted under its template; one whose handler fails is closed with 1011."""
    app = set_up(make())
    sent = await open_websocket(app, f"/v1/essays/{essay_id}/ws")
    assert [each["type"] for each in sent] == ["websocket.accept", "websocket.close"]
    assert sent[-1].get("code", 1000) == code
    labels = {"service": "svc", "endpoint": template(app, "/ws"), "status": status}
    assert REGISTRY.get_sample_value("websocket_server_session_duration_seconds_count", labels) == 1
    assert REGISTRY.get_sample_value("websocket_server_active_sessions", {"service": "svc"}) == 0


async def test_quart_closes_with_1011_without_error_handlers_too() -> None:
    """What no handler knows is no normal end of a WebSocket."""
    app = set_up(make_quart(handlers=False))
    sent = await open_websocket(app, "/v1/essays/broken/ws")
    assert sent[-1]["code"] == 1011


# What a Quart service brings


def _collectors(*labels: str) -> dict[str, Any]:
    registry = CollectorRegistry()
    return {
        "request_count": Counter("requests", "d", labels, registry=registry),
        "request_duration": Histogram("seconds", "d", labels[:2], registry=registry),
    }


def _value(collector: Any, suffix: str = "_total") -> dict[tuple[str, ...], float]:
    (family,) = collector.collect()
    return {tuple(sample.labels.values()): sample.value for sample in family.samples if sample.name.endswith(suffix)}


@pytest.mark.parametrize("status", ["status_code", "status", "http_status", "code"])
async def test_collectors_of_the_service_are_filled_whatever_they_call_the_status(status: str) -> None:
    """They are looked up at each request, so that they may come later; their label names are fitted."""
    app = set_up(make_quart())
    await ask(app, "/v1/essays/1")
    app.extensions["metrics"] = found = _collectors("method", "endpoint", status)
    await ask(app, "/v1/essays/1")
    assert _value(found["request_count"]) == {("GET", template(app), "200"): 1}
    assert _value(found["request_duration"], "_count") == {("GET", template(app)): 1}
    assert count(template(app), "200") == 2


async def test_collectors_under_their_other_usual_names_are_found() -> None:
    """A dict with ``http_requests_total`` is filled by the standard set-up too."""
    app = set_up(make_quart())
    found = _collectors("method", "endpoint", "status_code")
    app.extensions["metrics"] = {
        "http_requests_total": found["request_count"],
        "http_request_duration_seconds": found["request_duration"],
    }
    await ask(app, "/v1/essays/1")
    assert sum(_value(found["request_count"]).values()) == 1
    assert sum(_value(found["request_duration"], "_count").values()) == 1


@pytest.mark.parametrize(
    ("setup", "keys", "status"),
    [
        ("content", ("http_requests_total", "http_request_duration_seconds"), "status_code"),
        ("file", ("request_count", "request_duration"), "status"),
    ],
)
async def test_set_ups_of_single_services(setup: str, keys: tuple[str, str], status: str) -> None:
    """The content and the file service have set-ups for their names."""
    app = make_quart()
    getattr(metrics_middleware, f"setup_{setup}_service_metrics_middleware")(app)
    found = _collectors("method", "endpoint", status)
    app.extensions["metrics"] = dict(zip(keys, found.values(), strict=True))
    await ask(app, "/v1/essays/1")
    assert _value(found["request_count"]) == {("GET", template(app), "200"): 1}


async def test_a_collector_that_does_not_fit_costs_one_log_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A label that says nothing of requests is told once, counted each time, and the client gets the answer."""
    app = set_up(make_quart())
    app.extensions["metrics"] = _collectors("method", "endpoint", "tenant")
    answers = [(await ask(app, "/v1/essays/1")).status_code for _ in range(3)]
    assert answers == [200, 200, 200]
    assert REGISTRY.get_sample_value("http_metrics_unrecorded_total", {"service": "svc"}) == 3
    assert capsys.readouterr().out.count("http_metrics_not_recorded") == 1


async def test_summaries_and_doubles_are_taken_too() -> None:
    """Whatever has ``labels`` and ``observe`` is a duration."""
    app = set_up(make_quart())
    summary = Summary("seconds", "d", ["method", "endpoint"], registry=None)
    app.extensions["metrics"] = {"request_duration": summary}
    await ask(app, "/v1/essays/1")
    assert sum(_value(summary, "_count").values()) == 1


async def test_quart_can_be_set_up_while_it_starts() -> None:
    """Services call the set-up in ``before_serving``, and even after the first request it works."""
    app = make_quart()

    @app.before_serving
    async def start() -> None:
        set_up(app)

    async with app.test_app():
        await ask(app, "/v1/essays/1")
    late = make_quart()
    await ask(late, "/v1/essays/1")
    await ask(set_up(late), "/v1/essays/1")
    assert count(template(app), "200") == 2


async def test_fastapi_can_be_set_up_while_it_serves() -> None:
    """A set-up in the lifespan, when the stack of middleware is built, takes effect."""
    app = make_fastapi()
    await ask(app, "/v1/essays/1")
    await ask(set_up(app), "/v1/essays/1")
    assert count(template(app), "200") == 1


# Several applications, registries, the frameworks' own ways


async def test_applications_of_one_process_share_collectors(make: Make) -> None:
    """Two applications and repeated set-ups register nothing twice, and each has its label."""
    first, second = set_up(set_up(make()), "svc"), set_up(make(), "svc_b")
    await ask(first, "/v1/essays/1")
    await ask(second, "/v1/essays/1")
    assert count(template(first), "200") == count(template(first), "200", service="svc_b") == 1


async def test_a_cleared_registry_is_filled_again(make: Make) -> None:
    """Suites unregister every collector between tests: the next set-up brings ours back, once."""
    await ask(set_up(make()), "/v1/essays/1")
    everything = list(REGISTRY._collector_to_names)
    for collector in everything:
        REGISTRY.unregister(collector)
    try:
        app = make()
        await ask(set_up(app), "/v1/essays/1")
        assert count(template(app), "200") == 2
        generate_latest(REGISTRY)
    finally:
        for collector in everything:
            with suppress(ValueError):  # ours are back
                REGISTRY.register(collector)


async def test_fastapi_fills_the_collectors_that_its_services_know() -> None:
    """Named after the service, in the given registry, with the label ``status_code``."""
    registry = CollectorRegistry()
    app, again = make_fastapi(), make_fastapi()
    fastapi_metrics_middleware.setup_standard_service_metrics_middleware(app, "api-gateway", registry)
    frameworks.setup_standard_service_metrics_middleware(again, "api-gateway", registry)
    for each in (app, again):
        await ask(each, "/v1/essays/1")
    await ask(app, "/v1/essays/1/broken")
    labels = {"method": "GET", "endpoint": template(app)}
    assert registry.get_sample_value("api_gateway_http_requests_total", {**labels, "status_code": "200"}) == 2
    assert registry.get_sample_value("api_gateway_http_request_duration_seconds_count", labels) == 2
    broken = {"method": "GET", "endpoint": template(app, "/broken"), "status_code": "500"}
    assert registry.get_sample_value("api_gateway_http_requests_total", broken) == 1


async def test_the_middleware_class_works_the_same() -> None:
    """``add_middleware`` with the class counts under the template and lets the exception go on."""
    registry = CollectorRegistry()
    app = FastAPI()
    app.add_middleware(fastapi_metrics_middleware.StandardMetricsMiddleware, service_name="svc", registry=registry)

    @app.get("/broken/{number}")
    async def broken(number: int) -> None:
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        await app(http_scope("/broken/7"), _empty, _ignore)
    labels = {"method": "GET", "endpoint": "/broken/{number}", "status_code": "500"}
    assert registry.get_sample_value("svc_http_requests_total", labels) == 1


async def _empty() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_mounted_applications_have_the_whole_template(tmp_path: Any) -> None:
    """Of mounts in mounts, mounts with parameters and static files; what none of them knows is unmatched."""
    (tmp_path / "page.css").write_text("x", encoding="utf-8")
    inner, middle, app = make_fastapi(handlers=False), FastAPI(), FastAPI()
    middle.mount("/deep", inner)
    middle.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/{tenant}/sub", middle)
    set_up(app)
    for tenant in ("a", "b"):
        await ask(app, f"/{tenant}/sub/deep/v1/essays/7")
        await ask(app, f"/{tenant}/sub/static/page.css")
        await ask(app, f"/{tenant}/sub/deep/nothing/{tenant}")
    await ask(app, "/docs")
    assert count("/{tenant}/sub/deep/v1/essays/{essay_id}", "200") == 2
    assert count("/{tenant}/sub/static", "200") == 2
    assert count("__unmatched__", "404") == 2
    assert count("/docs", "200") == 1


async def test_templates_of_an_application_that_is_gone_are_forgotten() -> None:
    """Applications made one after the other, as test suites do, have each its own mounts, whatever address they get."""
    for number in range(30):
        outer, inner = FastAPI(), FastAPI()
        inner.get("/essay")(lambda: "essay")
        outer.mount(f"/{{name_{number}}}", inner)
        await ask(set_up(outer), "/sub/essay")
        del outer, inner
        gc.collect()
    assert [count(f"/{{name_{number}}}/essay", "200") for number in range(30)] == [1] * 30


async def test_a_mounted_application_with_metrics_of_its_own_is_counted_once() -> None:
    """Set up inside and outside, the outer one counts; set up inside only, the inner one does."""
    inner, app = make_fastapi(), FastAPI()
    app.mount("/sub", inner)
    set_up(inner, "inner")
    await ask(app, "/sub/v1/essays/1")
    set_up(app, "outer")
    await ask(app, "/sub/v1/essays/1")
    assert count("/sub/v1/essays/{essay_id}", "200", service="outer") == 1
    assert (
        sum(
            sample.value
            for family in REGISTRY.collect()
            for sample in family.samples
            if sample.name == f"{DURATION}_count" and sample.labels["service"] == "inner"
        )
        == 1
    )


async def test_quart_behind_a_dispatcher_has_the_prefix() -> None:
    """A dispatcher mounts Quart applications: the template begins with the mount's path."""
    inner = set_up(make_quart())
    outer = Quart("outer")
    outer.asgi_app = DispatcherMiddleware({"/sub": inner})  # type: ignore[method-assign]  # as its docs do
    await ask(set_up(outer, "outer"), "/sub/v1/essays/1")
    assert count("/sub" + template(inner), "200", service="outer") == 1


async def test_exemplars_lead_to_the_trace(make: Make, tracer: Tracer) -> None:
    """In the OpenMetrics form a sampled request's trace id stands beside its bucket."""
    app = set_up(make())
    module: Any = quart_middleware if isinstance(app, Quart) else fastapi_middleware
    module.setup_tracing_middleware(app, tracer)
    answer = await ask(app, "/v1/essays/1")
    text = str(generate_openmetrics(REGISTRY), "utf-8")  # type: ignore[no-untyped-call]  # prometheus_client's
    assert f'# {{span_id="{answer.headers["X-Span-ID"]}",trace_id="{answer.headers["X-Trace-ID"]}"}}' in text


async def test_somebody_elses_collector_of_our_name_is_told(make: Make) -> None:
    """The application works, and a warning names the metric that is not exported."""
    registry = CollectorRegistry()
    Counter("svc_http_requests_total", "somebody else's", registry=registry)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        app = make_fastapi()
        fastapi_metrics_middleware.setup_standard_service_metrics_middleware(app, "svc", registry)
    assert "svc_http_requests_total" in str(caught[0].message)
    assert (await ask(app, "/v1/essays/1")).status_code == 200


def test_importing_the_middleware_loads_no_framework() -> None:
    """``middleware`` and ``middleware.frameworks`` are for services of either framework."""
    code = (
        "import sys, huleedu_service_libs.middleware.frameworks, huleedu_service_libs.middleware.request_context;"
        "sys.exit(bool({'quart', 'fastapi', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)  # noqa: S603  # our own
    assert done.returncode == 0
