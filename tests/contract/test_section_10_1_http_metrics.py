"""Sections 10.1 and 10.2: HTTP metrics, in the collectors that services bring and in those of FastAPI."""

import subprocess
import sys
from typing import Any
from unittest.mock import Mock

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from quart import Quart

from huleedu_service_libs.metrics_middleware import (
    setup_content_service_metrics_middleware,
    setup_file_service_metrics_middleware,
    setup_metrics_middleware,
    setup_standard_service_metrics_middleware,
)
from huleedu_service_libs.middleware import frameworks
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import StandardMetricsMiddleware
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware as setup_fastapi,
)
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

STANDARD = ("request_count", "request_duration")
HTTP = ("http_requests_total", "http_request_duration_seconds")


@pytest.mark.parametrize("wanted", signatures(10), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def make_quart() -> Quart:
    """Three routes: one plain, one with a parameter, one that fails."""
    app = Quart("x")

    @app.get("/plain")
    async def plain() -> str:
        return "x"

    @app.get("/essays/<essay_id>")
    async def essay(essay_id: str) -> str:
        return essay_id

    @app.get("/refused")
    async def refused() -> tuple[str, int]:
        return "no", 418

    return app


def make_fastapi() -> FastAPI:
    """A route that answers and one that fails."""
    app = FastAPI()

    @app.get("/plain")
    async def plain() -> str:
        return "x"

    @app.get("/broken")
    async def broken() -> None:
        raise KeyError("x")

    return app


class Brought:
    """Collectors as a service makes them, in a registry of their own."""

    def __init__(self, keys: tuple[str, str], status: str) -> None:
        self.registry, self._status = CollectorRegistry(), status
        count = Counter("own_requests", "d", ["method", "endpoint", status], registry=self.registry)
        duration = Histogram("own_seconds", "d", ["method", "endpoint"], registry=self.registry)
        self.collectors = dict(zip(keys, (count, duration), strict=True))

    def count(self, endpoint: str, status: str) -> float:
        """Requests counted."""
        labels = {"method": "GET", "endpoint": endpoint, self._status: status}
        return self.registry.get_sample_value("own_requests_total", labels) or 0.0

    def observed(self, endpoint: str) -> float:
        """Requests observed, each in less than a minute."""
        labels = {"method": "GET", "endpoint": endpoint}
        assert (self.registry.get_sample_value("own_seconds_sum", labels) or 0.0) < 60
        return self.registry.get_sample_value("own_seconds_count", labels) or 0.0


async def ask(app: Any, path: str) -> int:
    """The status of one request."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        return (await http.get(path)).status_code


@pytest.mark.contract("10.1-standard", "10.1-content", "10.1-file", "10.1-names", "10.1-status-text")
@pytest.mark.parametrize(
    ("setup", "options", "keys", "status"),
    [
        (
            setup_standard_service_metrics_middleware,
            {"service_name": "essay_lifecycle_service"},
            STANDARD,
            "status_code",
        ),
        (setup_content_service_metrics_middleware, {}, HTTP, "status_code"),
        (setup_file_service_metrics_middleware, {}, STANDARD, "status"),
        (
            setup_metrics_middleware,
            {
                "request_count_metric_name": "http_requests_total",
                "request_duration_metric_name": "http_request_duration_seconds",
                "status_label_name": "status_code",
                "logger_name": "batch_conductor_service.metrics",
            },
            HTTP,
            "status_code",
        ),
        (
            setup_metrics_middleware,
            {"request_count_metric_name": "n", "request_duration_metric_name": "t"},
            ("n", "t"),
            "status_code",
        ),
    ],
    ids=["standard", "content", "file", "batch_conductor", "any"],
)
async def test_collectors_of_a_service(setup: Any, options: dict[str, str], keys: tuple[str, str], status: str) -> None:
    """Its own keys and labels are filled, with the status as text."""
    app, brought = make_quart(), Brought(keys, status)
    setup(app, **options)
    app.extensions["metrics"] = brought.collectors
    assert (await ask(app, "/plain"), await ask(app, "/refused")) == (200, 418)
    assert (brought.count("/plain", "200"), brought.count("/refused", "418")) == (1, 1)
    assert (brought.observed("/plain"), brought.observed("/refused")) == (1, 1)


@pytest.mark.contract("10.1-endpoint")
async def test_endpoints() -> None:
    """The path, and the template where there are as many paths as essays."""
    app, brought = make_quart(), Brought(STANDARD, "status_code")
    setup_standard_service_metrics_middleware(app, "svc")
    app.extensions["metrics"] = brought.collectors
    for path in ("/plain", "/essays/1", "/essays/2"):
        await ask(app, path)
    assert (brought.count("/plain", "200"), brought.count("/essays/<essay_id>", "200")) == (1, 2)


@pytest.mark.contract("10.1-other-keys", "10.1-other-label")
@pytest.mark.parametrize(("keys", "status"), [(HTTP, "status_code"), (STANDARD, "http_status")])
async def test_collectors_that_never_fitted(keys: tuple[str, str], status: str) -> None:
    """The standard set-up fills the other usual keys and labels too, of which nothing was recorded before."""
    app, brought = make_quart(), Brought(keys, status)
    setup_standard_service_metrics_middleware(app, "svc")
    app.extensions["metrics"] = brought.collectors
    await ask(app, "/plain")
    assert (brought.count("/plain", "200"), brought.observed("/plain")) == (1, 1)


@pytest.mark.contract("10.1-read-at-request", "10.1-missing")
async def test_collectors_that_come_later() -> None:
    """No dictionary, an empty one, one without the duration, and then one: each request takes what there is."""
    app, brought = make_quart(), Brought(STANDARD, "status_code")
    setup_standard_service_metrics_middleware(app, "svc")
    app.extensions.pop("metrics", None)
    assert await ask(app, "/plain") == 200
    for found in ({}, {"request_count": brought.collectors["request_count"]}, brought.collectors):
        app.extensions["metrics"] = found
        assert await ask(app, "/plain") == 200
    assert (brought.count("/plain", "200"), brought.observed("/plain")) == (2, 1)


@pytest.mark.contract("10.1-errors")
async def test_a_collector_that_raises() -> None:
    """The client gets its answer."""
    app, bad = make_quart(), Mock()
    bad.labels.side_effect = ValueError("wrong labels")
    setup_standard_service_metrics_middleware(app, "svc")
    app.extensions["metrics"] = {"request_count": bad, "request_duration": bad}
    assert await ask(app, "/plain") == 200
    bad.labels.assert_called()


@pytest.mark.contract("10.1-before-serving")
async def test_set_up_while_starting() -> None:
    """Some services do it in `before_serving`."""
    app, brought = make_quart(), Brought(STANDARD, "status_code")

    @app.before_serving
    async def start() -> None:
        app.extensions["metrics"] = brought.collectors
        setup_standard_service_metrics_middleware(app, "svc")

    async with app.test_app() as running:
        response = await running.test_client().get("/plain")
    assert (response.status_code, brought.count("/plain", "200")) == (200, 1)


def _fastapi_count(registry: CollectorRegistry, service: str, path: str, status: str) -> float:
    labels = {"method": "GET", "endpoint": path, "status_code": status}
    return registry.get_sample_value(f"{service}_http_requests_total", labels) or 0.0


@pytest.mark.contract("10.2-count", "10.2-duration", "10.2-exception", "10.2-forwarding")
@pytest.mark.parametrize(
    "setup", [setup_fastapi, frameworks.setup_standard_service_metrics_middleware], ids=["module", "package"]
)
async def test_fastapi(setup: Any) -> None:
    """Counted and timed in the registry given; what a handler raises counts as 500 and goes on."""
    app, registry = make_fastapi(), CollectorRegistry()
    setup(app, "gateway", registry)
    assert await ask(app, "/plain") == 200
    with pytest.raises(KeyError):
        await ask(app, "/broken")
    assert _fastapi_count(registry, "gateway", "/plain", "200") == 1
    assert _fastapi_count(registry, "gateway", "/broken", "500") == 1
    labels = {"method": "GET", "endpoint": "/plain"}
    assert registry.get_sample_value("gateway_http_request_duration_seconds_count", labels) == 1


@pytest.mark.contract("10.2-default-registry")
async def test_two_applications_of_one_process(unique_name: str) -> None:
    """The default registry, and one set of collectors for both."""
    service = unique_name.replace("-", "_")
    for _ in range(2):
        app = make_fastapi()
        setup_fastapi(app, service_name=service)
        assert await ask(app, "/plain") == 200
    assert _fastapi_count(REGISTRY, service, "/plain", "200") == 2


@pytest.mark.contract("10.2-class")
async def test_the_class() -> None:
    """Added as any middleware."""
    app, registry = make_fastapi(), CollectorRegistry()
    app.add_middleware(StandardMetricsMiddleware, service_name="gateway", registry=registry)
    assert await ask(app, "/plain") == 200
    assert _fastapi_count(registry, "gateway", "/plain", "200") == 1


@pytest.mark.contract("10.2-no-framework")
def test_the_packages_load_no_framework() -> None:
    """Neither Quart nor FastAPI nor Starlette."""
    code = (
        "import sys, huleedu_service_libs.middleware, huleedu_service_libs.middleware.frameworks; "
        "sys.exit(bool({'quart', 'fastapi', 'starlette'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0  # noqa: S603
