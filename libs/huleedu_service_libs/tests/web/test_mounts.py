"""Applications inside applications: templates, who counts a request, and who answers its errors."""

import gc
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from fastapi.staticfiles import StaticFiles
from hypercorn.middleware import DispatcherMiddleware
from prometheus_client import REGISTRY
from quart import Quart

from .applications import ask, make_fastapi, make_quart, template
from .numbers import DURATION, count
from .set_ups import set_up_metrics


async def test_mounted_applications_have_the_whole_template(tmp_path: Any) -> None:
    """Of mounts in mounts, mounts with parameters and static files; what none of them knows is unmatched."""
    (tmp_path / "page.css").write_text("x", encoding="utf-8")
    inner, middle, app = make_fastapi(handlers=False), FastAPI(), FastAPI()
    middle.mount("/deep", inner)
    middle.mount("/static", StaticFiles(directory=tmp_path))
    app.mount("/{tenant}/sub", middle)
    set_up_metrics(app)
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
        await ask(set_up_metrics(outer), "/sub/essay")
        del outer, inner
        gc.collect()
    assert [count(f"/{{name_{number}}}/essay", "200") for number in range(30)] == [1] * 30


async def test_a_mounted_application_with_metrics_of_its_own_is_counted_once() -> None:
    """Set up inside and outside, the outer one counts; set up inside only, the inner one does."""
    inner, app = make_fastapi(), FastAPI()
    app.mount("/sub", inner)
    set_up_metrics(inner, "inner")
    await ask(app, "/sub/v1/essays/1")
    set_up_metrics(app, "outer")
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
    inner = set_up_metrics(make_quart())
    outer = Quart("outer")
    outer.asgi_app = DispatcherMiddleware({"/sub": inner})  # type: ignore[method-assign]  # as its docs do
    await ask(set_up_metrics(outer, "outer"), "/sub/v1/essays/1")
    assert count("/sub" + template(inner), "200", service="outer") == 1


@pytest.mark.parametrize("own", [True, False])
async def test_a_mounted_fastapi_without_handlers_answers_in_our_form(own: bool) -> None:  # noqa: FBT001
    """Errors of an application inside an application get the one form and end there; handlers of its own win."""
    app, inner = make_fastapi(), FastAPI()

    @inner.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    @inner.get("/number/{number}")
    async def number(number: int) -> int:
        return number

    if own:

        @inner.exception_handler(RuntimeError)
        async def handle(_request: Request, _error: RuntimeError) -> Any:
            from fastapi.responses import PlainTextResponse  # noqa: PLC0415

            return PlainTextResponse("mine", 418)

    app.mount("/sub", inner)
    transport = httpx.ASGITransport(app=app)  # raises what the application raises
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer, invalid = await http.get("/sub/broken"), await http.get("/sub/number/x")
    assert answer.status_code == (418 if own else 500)
    if not own:
        assert answer.json()["error"]["code"] == "UNKNOWN_ERROR"
    assert invalid.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_a_mounted_fastapi_may_be_served_by_itself_too() -> None:
    """It answers errors in our form there as well, with ids of its own, and the error ends there."""
    app, inner = make_fastapi(), FastAPI()

    @inner.get("/broken")
    async def broken() -> None:
        raise RuntimeError("boom")

    app.mount("/sub", inner)
    mounted = await ask(app, "/sub/broken")
    transport = httpx.ASGITransport(app=inner)  # raises what the application raises
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        alone = await http.get("/broken")
    assert mounted.json()["error"]["code"] == alone.json()["error"]["code"] == "UNKNOWN_ERROR"
    assert alone.json()["error"]["correlation_id"] == alone.headers["X-Correlation-ID"]
