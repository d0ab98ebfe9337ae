"""Collectors that services bring or know by name: what they are called, what they lack, and what fills them."""

from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Summary

from huleedu_service_libs import metrics_middleware
from huleedu_service_libs.middleware import frameworks
from huleedu_service_libs.middleware.frameworks import fastapi_metrics_middleware

from .applications import ask, http_scope, make_fastapi, make_quart, template
from .numbers import count
from .set_ups import empty, ignore, set_up_metrics


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
    app = set_up_metrics(make_quart())
    await ask(app, "/v1/essays/1")
    app.extensions["metrics"] = found = _collectors("method", "endpoint", status)
    await ask(app, "/v1/essays/1")
    assert _value(found["request_count"]) == {("GET", template(app), "200"): 1}
    assert _value(found["request_duration"], "_count") == {("GET", template(app)): 1}
    assert count(template(app), "200") == 2


async def test_collectors_under_their_other_usual_names_are_found() -> None:
    """A dict with ``http_requests_total`` is filled by the standard set-up too."""
    app = set_up_metrics(make_quart())
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
    app = set_up_metrics(make_quart())
    app.extensions["metrics"] = _collectors("method", "endpoint", "tenant")
    answers = [(await ask(app, "/v1/essays/1")).status_code for _ in range(3)]
    assert answers == [200, 200, 200]
    assert REGISTRY.get_sample_value("http_metrics_unrecorded_total", {"service": "svc"}) == 3
    assert capsys.readouterr().out.count("http_metrics_not_recorded") == 1


async def test_summaries_and_doubles_are_taken_too() -> None:
    """Whatever has ``labels`` and ``observe`` is a duration."""
    app = set_up_metrics(make_quart())
    summary = Summary("seconds", "d", ["method", "endpoint"], registry=None)
    app.extensions["metrics"] = {"request_duration": summary}
    await ask(app, "/v1/essays/1")
    assert sum(_value(summary, "_count").values()) == 1


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
        await app(http_scope("/broken/7"), empty, ignore)
    labels = {"method": "GET", "endpoint": "/broken/{number}", "status_code": "500"}
    assert registry.get_sample_value("svc_http_requests_total", labels) == 1
