"""Setting up HTTP metrics: late, repeatedly, in several applications, in registries that are cleared or taken."""

import subprocess
import sys
import warnings
from contextlib import suppress

from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from huleedu_service_libs.middleware.frameworks import fastapi_metrics_middleware

from .applications import Make, ask, make_fastapi, make_quart, template
from .numbers import count
from .set_ups import set_up_metrics


async def test_quart_can_be_set_up_while_it_starts() -> None:
    """Services call the set-up in ``before_serving``, and even after the first request it works."""
    app = make_quart()

    @app.before_serving
    async def start() -> None:
        set_up_metrics(app)

    async with app.test_app():
        await ask(app, "/v1/essays/1")
    late = make_quart()
    await ask(late, "/v1/essays/1")
    await ask(set_up_metrics(late), "/v1/essays/1")
    assert count(template(app), "200") == 2


async def test_fastapi_can_be_set_up_while_it_serves() -> None:
    """A set-up in the lifespan, when the stack of middleware is built, takes effect."""
    app = make_fastapi()
    await ask(app, "/v1/essays/1")
    await ask(set_up_metrics(app), "/v1/essays/1")
    assert count(template(app), "200") == 1


async def test_applications_of_one_process_share_collectors(make: Make) -> None:
    """Two applications and repeated set-ups register nothing twice, and each has its label."""
    first, second = set_up_metrics(set_up_metrics(make()), "svc"), set_up_metrics(make(), "svc_b")
    await ask(first, "/v1/essays/1")
    await ask(second, "/v1/essays/1")
    assert count(template(first), "200") == count(template(first), "200", service="svc_b") == 1


async def test_a_cleared_registry_is_filled_again(make: Make) -> None:
    """Suites unregister every collector between tests: the next set-up brings ours back, once."""
    await ask(set_up_metrics(make()), "/v1/essays/1")
    everything = list(REGISTRY._collector_to_names)
    for collector in everything:
        REGISTRY.unregister(collector)
    try:
        app = make()
        await ask(set_up_metrics(app), "/v1/essays/1")
        assert count(template(app), "200") == 2
        generate_latest(REGISTRY)
    finally:
        for collector in everything:
            with suppress(ValueError):  # ours are back
                REGISTRY.register(collector)


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
